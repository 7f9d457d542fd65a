import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Button } from "../../design/Button.tsx";
import { SelectField, TextField } from "../../design/Field.tsx";
import { Badge, Empty, Failure, Loading } from "../../design/Notice.tsx";
import { Panel } from "../../design/Panel.tsx";
import { ScrollBox } from "../../design/ScrollBox.tsx";
import table from "../../design/Table.module.css";
import { useLanguage } from "../../language/language.tsx";
import styles from "../Room.module.css";
import { listRecords, STATES, type State, visible } from "./quarantine.ts";
import { RecordDialog } from "./RecordDialog.tsx";
import { TONES } from "./tones.ts";

export function QuarantinePage() {
  const { t, formats } = useLanguage();
  const client = useQueryClient();
  const [state, setState] = useState<State | "">("");
  const [code, setCode] = useState("");
  const [open, setOpen] = useState<string | null>(null);
  const found = useInfiniteQuery({
    queryKey: ["quarantine", state, code.trim()],
    queryFn: ({ pageParam, signal }) =>
      listRecords({ state, code: code.trim(), ...(pageParam === null ? {} : { after: pageParam }) }, signal),
    initialPageParam: null as string | null,
    getNextPageParam: (last) => last.next,
  });
  const records = found.data?.pages.flatMap((page) => page.records) ?? [];
  return (
    <div className={styles.room}>
      <Panel title={t.settings.rooms.quarantine} note={t.settings.quarantine.note}>
        <div className={styles.form}>
          <SelectField
            label={t.settings.quarantine.state}
            value={state}
            options={[
              { value: "" as const, label: t.settings.quarantine.all },
              ...STATES.map((value) => ({ value, label: t.settings.quarantine.states[value] })),
            ]}
            onChange={setState}
          />
          <TextField
            label={t.settings.quarantine.code}
            value={code}
            placeholder="schema"
            spellCheck={false}
            onChange={setCode}
          />
        </div>
        {found.isPending && <Loading />}
        {found.error !== null && <Failure error={found.error} onRetry={() => found.refetch()} />}
        {found.isSuccess && records.length === 0 && <Empty>{t.settings.quarantine.empty}</Empty>}
        {records.length > 0 && (
          <ScrollBox label={t.settings.rooms.quarantine}>
            <table className={table.table}>
              <thead>
                <tr>
                  <th>{t.settings.quarantine.received}</th>
                  <th>{t.settings.quarantine.state}</th>
                  <th>{t.settings.quarantine.origin}</th>
                  <th>{t.settings.quarantine.code}</th>
                  <th>{t.settings.quarantine.reason}</th>
                  <th>{t.settings.quarantine.bytes}</th>
                  <th>
                    <span className="visually-hidden">{t.states.actions}</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {records.map((record) => (
                  <tr key={record.handle}>
                    <td>{formats.moment(new Date(record.received))}</td>
                    <td>
                      <Badge tone={TONES[record.state]}>{t.settings.quarantine.states[record.state]}</Badge>
                    </td>
                    <td>{record.origin}</td>
                    <td>{record.code}</td>
                    <td className={styles.cut}>
                      <bdi>{record.reason}</bdi>
                    </td>
                    <td className={styles.cut}>
                      <code>{visible({ text: record.preview })}</code>
                    </td>
                    <td className={table.right}>
                      <Button onClick={() => setOpen(record.handle)}>{t.states.open}</Button>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </ScrollBox>
        )}
        {found.hasNextPage && (
          <div className={styles.actions}>
            <Button busy={found.isFetchingNextPage} onClick={() => found.fetchNextPage()}>
              {t.explore.more}
            </Button>
          </div>
        )}
      </Panel>
      {open !== null && (
        <RecordDialog
          handle={open}
          onChanged={() => client.invalidateQueries({ queryKey: ["quarantine"] })}
          onClose={() => setOpen(null)}
        />
      )}
    </div>
  );
}
