import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useId, useState } from "react";
import { Button } from "../../design/Button.tsx";
import { Confirm, Dialog } from "../../design/Dialog.tsx";
import { Badge, Failure, Loading, Notice } from "../../design/Notice.tsx";
import { useLanguage } from "../../language/language.tsx";
import styles from "../Room.module.css";
import { type Bytes, type Outcome, repair, replay, showRecord, visible, type WholeRecord } from "./quarantine.ts";
import { TONES } from "./tones.ts";

interface Props {
  handle: string;
  onChanged: () => Promise<void>;
  onClose: () => void;
}

/** One record: its bytes as they came, a repair beside them, and sending either again. */
export function RecordDialog({ handle, onChanged, onClose }: Props) {
  const { t } = useLanguage();
  const client = useQueryClient();
  const { data, error, isPending, refetch } = useQuery({
    queryKey: ["record", handle],
    queryFn: ({ signal }) => showRecord(handle, signal),
    staleTime: Number.POSITIVE_INFINITY,
  });
  return (
    <Dialog title={t.settings.quarantine.record} place="side" onClose={onClose}>
      {isPending && <Loading />}
      {error !== null && <Failure error={error} onRetry={() => refetch()} />}
      {data && (
        <Desk
          key={data.state}
          record={data}
          onChanged={async () => {
            await client.invalidateQueries({ queryKey: ["record", handle] });
            await onChanged();
          }}
        />
      )}
    </Dialog>
  );
}

function Desk({ record, onChanged }: { record: WholeRecord; onChanged: () => Promise<void> }) {
  const { t, formats } = useLanguage();
  const id = useId();
  const before = textOf(record.repaired ?? record.bytes);
  const [text, setText] = useState(before ?? "");
  const [asking, setAsking] = useState(false);
  const look = useMutation({ mutationFn: () => repair(record.handle, text, "look") });
  const [sent, setSent] = useState<Outcome | null>(null);
  const isChanged = text !== before;
  const isDone = record.state === "replayed";

  const sendAgain = async () => {
    if (isChanged) {
      const kept = await repair(record.handle, text, "keep");
      if (kept.outcome !== "sent") {
        setSent(kept);
        return;
      }
    }
    setSent(await replay(record.handle));
    await onChanged();
  };

  return (
    <>
      <dl className={styles.facts}>
        <dt>{t.settings.quarantine.state}</dt>
        <dd>
          <Badge tone={TONES[record.state]}>{t.settings.quarantine.states[record.state]}</Badge>
        </dd>
        <dt>{t.settings.quarantine.reason}</dt>
        <dd>
          <bdi>{record.reason}</bdi>{" "}
          <span className={styles.faint}>({[record.code, record.pointer].filter(Boolean).join(" ")})</span>
        </dd>
        <dt>{t.settings.quarantine.origin}</dt>
        <dd>{record.origin}</dd>
        <dt>{t.settings.quarantine.received}</dt>
        <dd>{formats.exact(new Date(record.received))}</dd>
        <dt>{t.settings.quarantine.key}</dt>
        <dd>
          <code>{record.key ?? "–"}</code>
        </dd>
        <dt>{t.settings.quarantine.bytes}</dt>
        <dd>
          {formats.bytes(record.size_bytes)}
          {record.truncated && ` · ${t.settings.quarantine.truncated}`}
        </dd>
      </dl>
      <pre className={styles.bytes}>{visible(record.bytes)}</pre>
      {!isDone && <OutcomeNote outcome={record.replay} now={t.settings.quarantine.asItIs} />}
      {before !== null && !isDone && (
        <>
          <div className={styles.snippet}>
            <label htmlFor={id} className={styles.label}>
              {t.settings.quarantine.repair}
            </label>
            <textarea
              id={id}
              className={styles.edit}
              spellCheck={false}
              value={text}
              onChange={(event) => {
                setText(event.target.value);
                look.reset();
              }}
            />
          </div>
          {look.error !== null && <Failure error={look.error} />}
          {look.data && <OutcomeNote outcome={look.data} now={t.settings.quarantine.repaired} />}
        </>
      )}
      {sent && <OutcomeNote outcome={sent} now={t.settings.quarantine.sent} />}
      {!isDone && (
        <div className={styles.actions}>
          {before !== null && (
            <Button busy={look.isPending} disabled={!isChanged} onClick={() => look.mutate()}>
              {t.settings.quarantine.look}
            </Button>
          )}
          <Button
            kind="primary"
            disabled={isChanged ? look.data?.outcome !== "sent" : record.replay.outcome !== "sent"}
            onClick={() => setAsking(true)}
          >
            {t.settings.quarantine.replay}
          </Button>
        </div>
      )}
      {asking && (
        <Confirm
          title={t.settings.quarantine.replayTitle}
          act={t.settings.quarantine.replay}
          onAct={sendAgain}
          onClose={() => setAsking(false)}
        >
          <p>{isChanged ? t.settings.quarantine.replayRepair : t.settings.quarantine.replayBytes}</p>
        </Confirm>
      )}
    </>
  );
}

function textOf(bytes: Bytes): string | null {
  return "text" in bytes ? bytes.text : null;
}

function OutcomeNote({ outcome, now }: { outcome: Outcome; now: string }) {
  const { t, formats } = useLanguage();
  switch (outcome.outcome) {
    case "sent":
      return (
        <Notice tone="good">
          {now}: {t.settings.quarantine.accepted}
        </Notice>
      );
    case "already_sent":
      return <Notice>{t.settings.quarantine.alreadySent(formats.moment(new Date(outcome.at)))}</Notice>;
    case "missing":
      return <Notice tone="bad">{t.settings.quarantine.missing}</Notice>;
    case "refused":
      return (
        <Notice tone="bad">
          <span>
            {now}: {t.settings.quarantine.refused}{" "}
            {outcome.errors.map((error) => [error.reason, error.pointer].filter(Boolean).join(" ")).join("; ")}
          </span>
        </Notice>
      );
  }
}
