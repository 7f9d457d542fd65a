import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Button } from "../../design/Button.tsx";
import { Confirm } from "../../design/Dialog.tsx";
import { SelectField, TextField } from "../../design/Field.tsx";
import { Moment } from "../../design/Moment.tsx";
import { Badge, Failure, Notice } from "../../design/Notice.tsx";
import { Panel } from "../../design/Panel.tsx";
import { Switch } from "../../design/Switch.tsx";
import { useLanguage } from "../../language/language.tsx";
import { mayAct, useSession } from "../../session/session.ts";
import { namesIn } from "../keys/keys.ts";
import { ListPanel } from "../ListPanel.tsx";
import styles from "../Room.module.css";
import { RoomForm, ShownOnce } from "../RoomForm.tsx";
import {
  type Channel,
  createChannel,
  deleteChannel,
  KINDS,
  type Kind,
  listChannels,
  setOperator,
  testChannel,
} from "./channels.ts";

/** Where alerts go. An editor sees it, an admin changes it. */
export function ChannelsPage() {
  const { t } = useLanguage();
  const client = useQueryClient();
  const mayChange = mayAct(useSession(), "admin");
  // Counts the channels that were made, so that each begins with an empty form.
  const [made, setMade] = useState(0);
  const [deleting, setDeleting] = useState<Channel | null>(null);
  const refresh = () => client.invalidateQueries({ queryKey: ["channels"] });
  const found = useQuery({ queryKey: ["channels"], queryFn: ({ signal }) => listChannels(signal) });
  const operate = useMutation({
    mutationFn: ({ id, operator }: Channel) => setOperator(id, !operator),
    onSettled: refresh,
  });
  const check = useMutation({
    mutationFn: (channel: Channel) => testChannel(channel.id),
    onSettled: refresh,
  });
  return (
    <div className={styles.room}>
      {found.data && mayChange && (
        <Panel title={t.settings.channels.create} note={t.settings.channels.note}>
          <NewChannelForm key={made} onMade={refresh} onDone={() => setMade(made + 1)} />
        </Panel>
      )}
      <ListPanel
        title={t.settings.channels.list}
        above={
          <>
            {operate.error !== null && <Failure error={operate.error} />}
            {check.error !== null && <Failure error={check.error} />}
            {check.data && (
              <div role="status">
                <Notice tone={check.data.ok ? "good" : "bad"}>
                  <span>
                    <bdi>{check.variables.name}</bdi>:{" "}
                    {check.data.ok ? t.settings.channels.delivered : t.settings.channels.failed}{" "}
                    <bdi>{check.data.detail}</bdi>
                  </span>
                </Notice>
              </div>
            )}
          </>
        }
        found={found}
        rows={found.data}
        empty={t.settings.channels.empty}
        absent={t.settings.channels.absent}
        keyOf={(channel) => channel.id}
        columns={[
          { head: t.settings.channels.name, look: "cut", cell: (channel) => <bdi>{channel.name}</bdi> },
          { head: t.settings.channels.kind, cell: (channel) => t.settings.channels.kinds[channel.kind] },
          {
            head: t.settings.channels.where,
            look: "cut",
            cell: (channel) => <bdi>{channel.host ?? channel.to?.join(", ")}</bdi>,
          },
          {
            head: t.settings.channels.operator,
            cell: (channel) => (
              <Switch
                label={`${t.settings.channels.operator}: ${channel.name}`}
                labelHidden
                checked={channel.operator}
                disabled={!mayChange || operate.isPending}
                onChange={() => operate.mutate(channel)}
              />
            ),
          },
          { head: t.settings.channels.last, cell: (channel) => <LastDelivery last={channel.last} /> },
        ]}
        {...(mayChange
          ? {
              actions: (channel: Channel) => (
                <>
                  <Button
                    busy={check.isPending && check.variables.id === channel.id}
                    disabled={check.isPending}
                    onClick={() => check.mutate(channel)}
                  >
                    {t.settings.channels.test}
                  </Button>
                  <Button onClick={() => setDeleting(channel)}>{t.settings.channels.delete}</Button>
                </>
              ),
            }
          : {})}
      />
      {deleting && (
        <Confirm
          title={t.settings.channels.deleteTitle}
          act={t.settings.channels.delete}
          onAct={async () => {
            await deleteChannel(deleting.id);
            await refresh();
          }}
          onClose={() => setDeleting(null)}
        >
          <p>
            <bdi>{deleting.name}</bdi>
          </p>
          <p>{t.settings.channels.deleteNote}</p>
        </Confirm>
      )}
    </div>
  );
}

function LastDelivery({ last }: { last: Channel["last"] }) {
  const { t } = useLanguage();
  if (last === null) return t.settings.channels.never;
  return (
    <>
      <Badge tone={last.ok ? "good" : "bad"}>{last.ok ? t.settings.channels.ok : t.settings.channels.bad}</Badge>{" "}
      <Moment at={last.at} />
      {last.error !== null && (
        <div className={styles.faint}>
          <bdi>{last.error}</bdi>
        </div>
      )}
    </>
  );
}

function NewChannelForm({ onMade, onDone }: { onMade: () => Promise<void>; onDone: () => void }) {
  const { t } = useLanguage();
  const [kind, setKind] = useState<Kind>("email");
  const [name, setName] = useState("");
  const [to, setTo] = useState("");
  const [url, setUrl] = useState("");
  const [operator, setOperatorToo] = useState(false);
  const make = useMutation({
    mutationFn: createChannel,
    onSuccess: async ({ signing_key }) => {
      await onMade();
      if (signing_key === undefined) onDone();
    },
  });
  const key = make.data?.signing_key;
  if (key !== undefined) return <ShownOnce note={t.settings.channels.shownOnce} secret={key} onKept={onDone} />;
  const submit = () => {
    const about = { name: name.trim(), operator };
    make.mutate(kind === "email" ? { kind, ...about, to: namesIn(to) } : { kind, ...about, url: url.trim() });
  };
  return (
    <RoomForm submit={t.settings.channels.make} tried={make} onSubmit={submit}>
      <SelectField
        label={t.settings.channels.kind}
        value={kind}
        options={KINDS.map((value) => ({ value, label: t.settings.channels.kinds[value] }))}
        hint={t.settings.channels.kindHints[kind]}
        onChange={setKind}
      />
      <TextField label={t.settings.channels.name} value={name} maxLength={100} required onChange={setName} />
      {kind === "email" ? (
        <TextField
          label={t.settings.channels.to}
          hint={t.settings.channels.toHint}
          value={to}
          required
          onChange={setTo}
        />
      ) : (
        <TextField
          label={t.settings.channels.url}
          hint={t.settings.channels.urlHint}
          type="url"
          placeholder="https://"
          value={url}
          required
          onChange={setUrl}
        />
      )}
      <div className={styles.wide}>
        <Switch
          label={t.settings.channels.operator}
          hint={t.settings.channels.operatorHint}
          checked={operator}
          onChange={setOperatorToo}
        />
      </div>
    </RoomForm>
  );
}
