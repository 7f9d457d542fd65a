import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { call } from "../../api/client.ts";
import { Button } from "../../design/Button.tsx";
import { Dialog } from "../../design/Dialog.tsx";
import { Empty, Failure, Loading } from "../../design/Notice.tsx";
import { Panel } from "../../design/Panel.tsx";
import { ScrollBox } from "../../design/ScrollBox.tsx";
import table from "../../design/Table.module.css";
import { useLanguage } from "../../language/language.tsx";
import styles from "../Room.module.css";
import { RoomFailure } from "../RoomFailure.tsx";

interface Mail {
  id: string;
  to: string | string[];
  subject: string;
  at: string;
}

interface WholeMail extends Mail {
  text: string | null;
}

/** The mails that one machine wrote instead of sending them. */
export function OutboxPage() {
  const { t, formats } = useLanguage();
  const [open, setOpen] = useState<Mail | null>(null);
  // Not again and again: each look is written down as an admin's.
  const { data, error, isPending, isFetching, refetch } = useQuery({
    queryKey: ["outbox"],
    queryFn: ({ signal }) => call<{ mails: Mail[] }>("GET", "/v1/outbox", { signal }),
  });
  return (
    <div className={styles.room}>
      <Panel
        title={t.settings.rooms.outbox}
        note={t.settings.outbox.note}
        actions={
          <Button busy={isFetching} onClick={() => refetch()}>
            {t.states.refresh}
          </Button>
        }
      >
        {isPending && <Loading />}
        <RoomFailure error={error} absent={t.settings.outbox.absent} onRetry={() => refetch()} />
        {data?.mails.length === 0 && <Empty>{t.settings.outbox.empty}</Empty>}
        {data && data.mails.length > 0 && (
          <ScrollBox label={t.settings.rooms.outbox}>
            <table className={table.table}>
              <thead>
                <tr>
                  <th>{t.settings.outbox.at}</th>
                  <th>{t.settings.outbox.to}</th>
                  <th>{t.settings.outbox.subject}</th>
                  <th>
                    <span className="visually-hidden">{t.states.actions}</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {data.mails.map((mail) => (
                  <tr key={mail.id}>
                    <td>{formats.moment(new Date(mail.at))}</td>
                    <td className={styles.cut}>
                      <bdi>{namesOf(mail.to)}</bdi>
                    </td>
                    <td className={styles.cut}>
                      <bdi>{mail.subject}</bdi>
                    </td>
                    <td className={table.right}>
                      <Button onClick={() => setOpen(mail)}>{t.states.open}</Button>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </ScrollBox>
        )}
      </Panel>
      {open && <MailDialog mail={open} onClose={() => setOpen(null)} />}
    </div>
  );
}

/** Only the text part: the other is a page of its own. */
function MailDialog({ mail, onClose }: { mail: Mail; onClose: () => void }) {
  const { t, formats } = useLanguage();
  const { data, error, isPending, refetch } = useQuery({
    queryKey: ["outbox", mail.id],
    queryFn: ({ signal }) => call<WholeMail>("GET", `/v1/outbox/${encodeURIComponent(mail.id)}`, { signal }),
  });
  return (
    <Dialog title={mail.subject} place="side" onClose={onClose}>
      <dl className={styles.facts}>
        <dt>{t.settings.outbox.to}</dt>
        <dd>
          <bdi>{namesOf(mail.to)}</bdi>
        </dd>
        <dt>{t.settings.outbox.at}</dt>
        <dd>{formats.moment(new Date(mail.at))}</dd>
      </dl>
      {isPending && <Loading />}
      {error !== null && <Failure error={error} onRetry={() => refetch()} />}
      {data && <pre className={styles.bytes}>{data.text ?? t.settings.outbox.noText}</pre>}
    </Dialog>
  );
}

function namesOf(to: string | string[]): string {
  return Array.isArray(to) ? to.join(", ") : to;
}
