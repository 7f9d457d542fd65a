import { useQuery } from "@tanstack/react-query";
import { useEffect, useSyncExternalStore } from "react";
import { ApiError } from "../api/client.ts";
import { Empty, Failure, Loading } from "../design/Notice.tsx";
import { Panel } from "../design/Panel.tsx";
import table from "../design/Table.module.css";
import { useLanguage } from "../language/language.tsx";
import styles from "./PlayPage.module.css";
import { ranking } from "./server.ts";
import { useOutgoing } from "./useOutgoing.ts";

/** The best of this day, by the server's calendar (UTC). */
export function RankingPanel() {
  const { t, formats } = useLanguage();
  const day = useToday();
  const { waiting } = useOutgoing();
  const { data, error, isPending, refetch } = useQuery({
    queryKey: ["game", "ranking", day],
    queryFn: ({ signal }) => ranking(day, signal),
    refetchInterval: 15_000,
  });
  // The server has a new result: it may be in the ranking in a moment.
  useEffect(() => {
    if (waiting === 0) void refetch();
  }, [waiting, refetch]);

  const isUnknown = error instanceof ApiError && error.status >= 400 && error.status < 500;
  return (
    <Panel title={t.play.ranking} className={styles.ranking} note={t.play.rankingNote}>
      {isPending && <Loading />}
      {error !== null &&
        (isUnknown ? <Empty>{t.play.noRanking}</Empty> : <Failure error={error} onRetry={() => refetch()} />)}
      {data && data.entries.length === 0 && <Empty>{t.play.emptyRanking}</Empty>}
      {data && data.entries.length > 0 && (
        <table className={table.table}>
          <thead>
            <tr>
              <th className={table.right}>{t.play.rank}</th>
              <th>{t.play.nickname}</th>
              <th className={table.right}>{t.play.rate}</th>
              <th className={table.right}>{t.play.time}</th>
            </tr>
          </thead>
          <tbody>
            {data.entries.map((entry) => (
              <tr key={entry.rank}>
                <td className={table.right}>{entry.rank}</td>
                <td className={styles.name}>
                  <bdi>{entry.nickname}</bdi>
                </td>
                <td className={table.right}>
                  {formats.percent(entry.success_rate)}% · {entry.clicked_count}/{entry.total_squares}
                </td>
                <td className={table.right}>{formats.clock(new Date(entry.at))}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}

/** The UTC day; another one after midnight, wherever the page has been open since. */
function useToday(): string {
  return useSyncExternalStore(everyMinute, () => new Date().toISOString().slice(0, 10));
}

function everyMinute(onChange: () => void): () => void {
  const timer = setInterval(onChange, 60_000);
  return () => clearInterval(timer);
}
