import { useQuery } from "@tanstack/react-query";
import { DataTable } from "../../design/DataTable.tsx";
import { Panel } from "../../design/Panel.tsx";
import { useLanguage } from "../../language/language.tsx";
import { ListPanel } from "../ListPanel.tsx";
import styles from "../Room.module.css";
import { askRetention } from "./retention.ts";

/** How long what is kept. It is set in schemas and settings, and only told here. */
export function RetentionPage() {
  const { t } = useLanguage();
  const found = useQuery({ queryKey: ["retention"], queryFn: ({ signal }) => askRetention(signal) });
  const kept = found.data;
  const days = (count: number | null) =>
    count === null ? t.settings.retention.noEnd : t.settings.retention.days(count);
  const mails = (count: number | null) =>
    count === null ? t.settings.retention.noMails : t.settings.retention.mails(count);
  const rows = kept && [
    { name: "search" as const, long: t.settings.retention.asTables },
    { name: "state" as const, long: days(kept.state_days) },
    { name: "queue" as const, long: days(kept.queue_days) },
    { name: "deadLetters" as const, long: days(kept.dead_letter_days) },
    { name: "quarantine" as const, long: days(kept.quarantine_days) },
    { name: "outbox" as const, long: mails(kept.outbox_mails) },
  ];
  return (
    <div className={styles.room}>
      <ListPanel
        title={t.settings.rooms.retention}
        note={t.settings.retention.note}
        found={found}
        rows={rows}
        empty={null}
        absent={t.settings.retention.absent}
        keyOf={(row) => row.name}
        columns={[
          { head: t.settings.retention.what, cell: (row) => t.settings.retention.things[row.name] },
          { head: t.settings.retention.long, cell: (row) => <strong>{row.long}</strong> },
          {
            head: t.settings.retention.meaning,
            cell: (row) => <span className={styles.faint}>{t.settings.retention.meanings[row.name]}</span>,
          },
        ]}
      />
      {kept && (
        <Panel title={t.settings.retention.tables} note={t.settings.retention.tablesNote}>
          <DataTable
            label={t.settings.retention.tables}
            rows={kept.tables}
            keyOf={(row) => row.table}
            columns={[
              { head: t.settings.retention.table, cell: (row) => <code>{row.table}</code> },
              { head: t.settings.retention.long, cell: (row) => days(row.days) },
            ]}
          />
        </Panel>
      )}
    </div>
  );
}
