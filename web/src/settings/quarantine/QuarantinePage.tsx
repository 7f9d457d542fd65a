import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { Button } from "../../design/Button.tsx";
import { SelectField, TextField } from "../../design/Field.tsx";
import { Moment } from "../../design/Moment.tsx";
import { Badge } from "../../design/Notice.tsx";
import { useLanguage } from "../../language/language.tsx";
import { ListPanel } from "../ListPanel.tsx";
import styles from "../Room.module.css";
import { type QuarantineSearch, readQuarantineSearch } from "./address.ts";
import { listRecords, STATES, visible } from "./quarantine.ts";
import { RecordDialog } from "./RecordDialog.tsx";
import { TONES } from "./tones.ts";

export function QuarantinePage() {
  const { t } = useLanguage();
  const client = useQueryClient();
  const { state, code = "", record: open } = useSearch({ from: "/console/settings/quarantine" });
  const navigate = useNavigate({ from: "/settings/quarantine" });
  const go = (change: { [Name in keyof QuarantineSearch]?: QuarantineSearch[Name] | undefined }, replace = false) =>
    navigate({ search: (before) => readQuarantineSearch({ ...before, ...change }), replace });
  const found = useInfiniteQuery({
    queryKey: ["quarantine", state, code.trim()],
    queryFn: ({ pageParam, signal }) =>
      listRecords(
        { state: state ?? "", code: code.trim(), ...(pageParam === null ? {} : { after: pageParam }) },
        signal,
      ),
    initialPageParam: null as string | null,
    getNextPageParam: (last) => last.next,
  });
  return (
    <div className={styles.room}>
      <ListPanel
        title={t.settings.rooms.quarantine}
        note={t.settings.quarantine.note}
        above={
          <div className={styles.form}>
            <SelectField
              label={t.settings.quarantine.state}
              value={state ?? ""}
              options={[
                { value: "" as const, label: t.settings.quarantine.all },
                ...STATES.map((value) => ({ value, label: t.settings.quarantine.states[value] })),
              ]}
              onChange={(next) => go({ state: next === "" ? undefined : next })}
            />
            <TextField
              label={t.settings.quarantine.code}
              value={code}
              placeholder="schema"
              spellCheck={false}
              onChange={(next) => go({ code: next }, true)}
            />
          </div>
        }
        below={
          found.hasNextPage && (
            <div className={styles.actions}>
              <Button busy={found.isFetchingNextPage} onClick={() => found.fetchNextPage()}>
                {t.explore.more}
              </Button>
            </div>
          )
        }
        found={found}
        rows={found.data?.pages.flatMap((page) => page.records)}
        empty={t.settings.quarantine.empty}
        keyOf={(record) => record.handle}
        columns={[
          { head: t.settings.quarantine.received, cell: (record) => <Moment at={record.received} /> },
          {
            head: t.settings.quarantine.state,
            cell: (record) => <Badge tone={TONES[record.state]}>{t.settings.quarantine.states[record.state]}</Badge>,
          },
          { head: t.settings.quarantine.origin, cell: (record) => record.origin },
          { head: t.settings.quarantine.code, cell: (record) => record.code },
          { head: t.settings.quarantine.reason, look: "cut", cell: (record) => <bdi>{record.reason}</bdi> },
          {
            head: t.settings.quarantine.bytes,
            look: "cut",
            cell: (record) => <code>{visible({ text: record.preview })}</code>,
          },
        ]}
        actions={(record) => <Button onClick={() => go({ record: record.handle })}>{t.states.open}</Button>}
      />
      {open !== undefined && (
        <RecordDialog
          handle={open}
          onChanged={() => client.invalidateQueries({ queryKey: ["quarantine"] })}
          onClose={() => go({ record: undefined })}
        />
      )}
    </div>
  );
}
