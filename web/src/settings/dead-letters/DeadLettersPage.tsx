import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { call } from "../../api/client.ts";
import { Button } from "../../design/Button.tsx";
import { Confirm, Dialog } from "../../design/Dialog.tsx";
import { Moment } from "../../design/Moment.tsx";
import { Empty, Failure, Loading } from "../../design/Notice.tsx";
import { useLanguage } from "../../language/language.tsx";
import { useLive } from "../../live/live.ts";
import type { Queue } from "../../monitor/ask.ts";
import { ListPanel } from "../ListPanel.tsx";
import { visible } from "../quarantine/quarantine.ts";
import styles from "../Room.module.css";

interface Letter {
  id: string;
  sent: string;
  receive_count: number;
  events: number;
  bytes: number;
  body: string;
}

/** Messages that no stage could handle for hours. */
export function DeadLettersPage() {
  const { t, formats } = useLanguage();
  const client = useQueryClient();
  const [looking, setLooking] = useState<string | null>(null);
  const [redriving, setRedriving] = useState<Queue | null>(null);
  const found = useLive({
    key: ["queues"],
    topics: ["queues"],
    ask: (signal) => call<{ queues: Queue[] }>("GET", "/v1/queues", { signal }),
  });
  const dead = found.data?.queues.filter((queue) => isDeadLetterQueue(queue, found.data.queues));
  return (
    <div className={styles.room}>
      <ListPanel
        title={t.settings.rooms.deadLetters}
        note={t.settings.deadLetters.note}
        below={dead?.every((queue) => messagesIn(queue) === 0) && <Empty>{t.settings.deadLetters.empty}</Empty>}
        found={found}
        rows={dead}
        empty={null}
        keyOf={(queue) => queue.name}
        columns={[
          { head: t.settings.deadLetters.queue, cell: (queue) => queue.name },
          { head: t.settings.deadLetters.messages, look: "right", cell: (queue) => formats.count(messagesIn(queue)) },
          {
            head: t.monitor.events,
            look: "right",
            cell: (queue) => (queue.events === null ? "–" : formats.count(queue.events)),
          },
          {
            head: t.monitor.oldest,
            look: "right",
            cell: (queue) => queue.oldest_ms !== null && formats.duration(queue.oldest_ms),
          },
        ]}
        actions={(queue) =>
          messagesIn(queue) > 0 && (
            <>
              <Button onClick={() => setLooking(queue.name)}>{t.settings.deadLetters.peek}</Button>
              <Button onClick={() => setRedriving(queue)}>{t.settings.deadLetters.redrive}</Button>
            </>
          )
        }
      />
      {looking !== null && <Letters queue={looking} onClose={() => setLooking(null)} />}
      {redriving && (
        <Confirm
          title={t.settings.deadLetters.redriveTitle}
          act={t.settings.deadLetters.redrive}
          onAct={async () => {
            await call("POST", `/v1/queues/${encodeURIComponent(redriving.name)}/redrive`);
            await client.invalidateQueries({ queryKey: ["live", "queues"] });
          }}
          onClose={() => setRedriving(null)}
        >
          <p>
            <code>{redriving.name}</code>
          </p>
          <p>{t.settings.deadLetters.redriveNote}</p>
        </Confirm>
      )}
    </div>
  );
}

function messagesIn(queue: Queue): number {
  return queue.visible + queue.in_flight;
}

/** A queue that another one, or a subscription, leaves its failures in. */
function isDeadLetterQueue(queue: Queue, all: readonly Queue[]): boolean {
  return all.some((other) => other.dead_letter_queue === queue.name) || queue.name.endsWith("DeadLetterQueue");
}

function Letters({ queue, onClose }: { queue: string; onClose: () => void }) {
  const { t, formats } = useLanguage();
  const { data, error, isPending, refetch } = useQuery({
    queryKey: ["letters", queue],
    queryFn: ({ signal }) =>
      call<{ messages: Letter[] }>("GET", `/v1/queues/${encodeURIComponent(queue)}/messages`, {
        query: { limit: 20 },
        signal,
      }),
  });
  return (
    <Dialog title={queue} place="side" onClose={onClose}>
      {isPending && <Loading />}
      {error !== null && <Failure error={error} onRetry={() => refetch()} />}
      {data?.messages.length === 0 && <Empty>{t.settings.deadLetters.empty}</Empty>}
      <ul className={styles.list}>
        {data?.messages.map((letter) => (
          <li key={letter.id} className={styles.list}>
            <dl className={styles.facts}>
              <dt>{t.settings.deadLetters.sent}</dt>
              <dd>
                <Moment at={letter.sent} />
              </dd>
              <dt>{t.settings.deadLetters.tries}</dt>
              <dd>{formats.count(letter.receive_count)}</dd>
              <dt>{t.monitor.events}</dt>
              <dd>{formats.count(letter.events)}</dd>
            </dl>
            <pre className={styles.bytes}>{visible({ text: letter.body })}</pre>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}
