import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { call } from "../../api/client.ts";
import { Button } from "../../design/Button.tsx";
import { Dialog } from "../../design/Dialog.tsx";
import { Moment } from "../../design/Moment.tsx";
import { Failure, Loading } from "../../design/Notice.tsx";
import { useLanguage } from "../../language/language.tsx";
import { ListPanel } from "../ListPanel.tsx";
import styles from "../Room.module.css";

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
  const { t } = useLanguage();
  const [open, setOpen] = useState<Mail | null>(null);
  // Not again and again: each look is written down as an admin's.
  const found = useQuery({
    queryKey: ["outbox"],
    queryFn: ({ signal }) => call<{ mails: Mail[] }>("GET", "/v1/outbox", { signal }),
  });
  return (
    <div className={styles.room}>
      <ListPanel
        title={t.settings.rooms.outbox}
        note={t.settings.outbox.note}
        controls={
          <Button busy={found.isFetching} onClick={() => found.refetch()}>
            {t.states.refresh}
          </Button>
        }
        found={found}
        rows={found.data?.mails}
        empty={t.settings.outbox.empty}
        absent={t.settings.outbox.absent}
        keyOf={(mail) => mail.id}
        columns={[
          { head: t.settings.outbox.at, cell: (mail) => <Moment at={mail.at} /> },
          { head: t.settings.outbox.to, look: "cut", cell: (mail) => <bdi>{namesOf(mail.to)}</bdi> },
          { head: t.settings.outbox.subject, look: "cut", cell: (mail) => <bdi>{mail.subject}</bdi> },
        ]}
        actions={(mail) => <Button onClick={() => setOpen(mail)}>{t.states.open}</Button>}
      />
      {open && <MailDialog mail={open} onClose={() => setOpen(null)} />}
    </div>
  );
}

/** Only the text part: the other is a page of its own. */
function MailDialog({ mail, onClose }: { mail: Mail; onClose: () => void }) {
  const { t } = useLanguage();
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
        <dd>
          <Moment at={mail.at} />
        </dd>
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
