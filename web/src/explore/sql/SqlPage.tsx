import { useMutation, useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useEffect, useMemo, useRef, useState } from "react";
import { ApiError } from "../../api/client.ts";
import { Chart } from "../../charts/Chart.tsx";
import { Button } from "../../design/Button.tsx";
import { Empty, Failure, Loading } from "../../design/Notice.tsx";
import { PageHead } from "../../design/PageHead.tsx";
import { ScrollBox } from "../../design/ScrollBox.tsx";
import table from "../../design/Table.module.css";
import { brief } from "../../format/json.ts";
import { useLanguage } from "../../language/language.tsx";
import { ExploreTabs } from "../ExploreTabs.tsx";
import { askSql, askTables, type LakeTable, type SqlResult } from "./ask.ts";
import { chartOf } from "./chart.ts";
import { csvOf } from "./csv.ts";
import { Editor } from "./Editor.tsx";
import styles from "./SqlPage.module.css";

const NO_TABLES: readonly LakeTable[] = [];
/** Rows in the page; the file has all. */
const SHOWN = 500;

export function SqlPage() {
  const { t } = useLanguage();
  const { sql } = useSearch({ from: "/console/explore/sql" });
  const navigate = useNavigate({ from: "/explore/sql" });
  const [text, setText] = useState(sql ?? "");
  const aborted = useRef<AbortController | null>(null);
  const ask = useMutation({
    mutationFn: (statement: string) => {
      aborted.current = new AbortController();
      return askSql(statement, aborted.current.signal);
    },
  });
  const tables = useQuery({ queryKey: ["tables"], queryFn: ({ signal }) => askTables(signal), staleTime: 300_000 });

  const run = () => {
    const statement = text.trim();
    if (statement === "" || ask.isPending) return;
    void navigate({ search: { sql: statement }, replace: true });
    ask.mutate(statement);
  };
  const insert = (word: string) =>
    setText((before) => (before === "" ? `SELECT * FROM ${word} LIMIT 100` : `${before} ${word}`));

  // A link brings its statement with it: it is asked at once, since it can only read.
  const { mutate } = ask;
  const first = useRef(sql);
  useEffect(() => {
    if (first.current === undefined) return;
    mutate(first.current);
    first.current = undefined;
  }, [mutate]);

  return (
    <>
      <PageHead title={t.pages.explore} beside={<ExploreTabs />} />
      <div className={styles.columns}>
        <aside className={styles.tables} aria-label={t.explore.sql.tables}>
          {tables.isPending && <Loading />}
          {tables.error !== null &&
            (tables.error instanceof ApiError && tables.error.status === 404 ? (
              <Empty>{t.explore.sql.noTables}</Empty>
            ) : (
              <Failure error={tables.error} onRetry={() => tables.refetch()} />
            ))}
          {tables.data?.map((known) => (
            <TableColumns key={known.name} known={known} onInsert={insert} />
          ))}
        </aside>
        <div className={styles.work}>
          <Editor text={text} tables={tables.data ?? NO_TABLES} onChange={setText} onRun={run} />
          <div className={styles.actions}>
            <Button kind="primary" busy={ask.isPending} disabled={text.trim() === ""} onClick={run}>
              {t.explore.sql.run}
            </Button>
            {ask.isPending && <Button onClick={() => aborted.current?.abort()}>{t.states.cancel}</Button>}
            <span className={styles.hint}>{t.explore.sql.hint}</span>
          </div>
          {ask.error !== null && !aborted.current?.signal.aborted && <Failure error={ask.error} onRetry={run} />}
          {ask.data && <Result result={ask.data} />}
        </div>
      </div>
    </>
  );
}

function TableColumns({ known, onInsert }: { known: LakeTable; onInsert: (word: string) => void }) {
  return (
    <details className={styles.table}>
      <summary>{known.name}</summary>
      <ul>
        {known.columns.map((column) => (
          <li key={column.name}>
            <button type="button" onClick={() => onInsert(column.name)}>
              <span>{column.name}</span>
              <span className={styles.type}>{column.type}</span>
            </button>
          </li>
        ))}
        <li>
          <button type="button" onClick={() => onInsert(known.name)}>
            <span>↳ {known.name}</span>
          </button>
        </li>
      </ul>
    </details>
  );
}

function Result({ result }: { result: SqlResult }) {
  const { t, formats } = useLanguage();
  const chart = useMemo(() => chartOf(result), [result]);
  const download = () => {
    const csv = csvOf(
      result.columns.map((column) => column.name),
      result.rows,
    );
    const address = URL.createObjectURL(new Blob([csv], { type: "text/csv;charset=utf-8" }));
    const link = document.createElement("a");
    link.href = address;
    link.download = "sluice.csv";
    link.click();
    URL.revokeObjectURL(address);
  };
  return (
    <section aria-label={t.explore.results} className={styles.result}>
      <div className={styles.actions}>
        <p role="status" className={styles.hint}>
          {t.explore.sql.rows(
            result.rows.length,
            formats.count(result.rows.length),
            result.files_read,
            formats.count(result.files_read),
          )}
          {result.truncated && ` ${t.explore.sql.truncated}`}
          {result.rows.length > SHOWN && ` ${t.explore.sql.shown(formats.count(SHOWN))}`}
        </p>
        <Button onClick={download} disabled={result.rows.length === 0}>
          {t.explore.sql.csv}
        </Button>
      </div>
      {chart && <Chart label={t.explore.sql.chart} data={chart} value={formats.decimal} height={220} />}
      {result.rows.length === 0 ? (
        <Empty>{t.explore.nothing}</Empty>
      ) : (
        <ScrollBox label={t.explore.results}>
          <table className={`${table.table} ${styles.rows}`}>
            <thead>
              <tr>
                {result.columns.map((column, i) => (
                  // biome-ignore lint/suspicious/noArrayIndexKey: two columns may have one name
                  <th key={i} title={column.type} className={isNumber(column.type) ? table.right : undefined}>
                    {column.name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {result.rows.slice(0, SHOWN).map((row, n) => (
                // biome-ignore lint/suspicious/noArrayIndexKey: rows of a result have no other name
                <tr key={n}>
                  {row.map((value, i) => (
                    // biome-ignore lint/suspicious/noArrayIndexKey: as above
                    <td key={i} className={isNumber(result.columns[i]?.type ?? "") ? table.right : undefined}>
                      <bdi>{brief(value)}</bdi>
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </ScrollBox>
      )}
    </section>
  );
}

function isNumber(type: string): boolean {
  return /^(tinyint|smallint|int|bigint|float|real|double|decimal)/.test(type);
}
