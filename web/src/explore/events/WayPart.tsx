import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import { type Hit, tableOf } from "../../api/search.ts";
import { Moment } from "../../design/Moment.tsx";
import { Badge, type Tone } from "../../design/Notice.tsx";
import { useLanguage } from "../../language/language.tsx";
import { askLake } from "./ask.ts";
import dialog from "./EventDialog.module.css";
import styles from "./WayPart.module.css";
import { askWay, stationsOf, TONES, type Way } from "./way.ts";

/** Until an event has arrived everywhere, it is asked again. */
const AGAIN_MS = 2_000;

/** Where the event has been, station by station, as far as it is known. */
export function WayPart({ hit }: { hit: Hit }) {
  const { t, formats } = useLanguage();
  const { _source: event, _index, _id } = hit;
  const table = tableOf(_index);
  const lake = useQuery({
    queryKey: ["lake", table, _id],
    queryFn: ({ signal }) => askLake(table, event, signal),
    refetchInterval: (query) => (query.state.data === 0 ? AGAIN_MS : false),
    retry: false,
  });
  const way = useQuery({
    queryKey: ["way", _index, _id],
    queryFn: ({ signal }) => askWay(_index, _id, signal),
    refetchInterval: (query) => (isMoving(query.state.data) ? AGAIN_MS : false),
    retry: false,
  });
  const told = way.data ?? null;
  return (
    <section className={dialog.part} aria-labelledby={`${_id}-way`}>
      <h3 id={`${_id}-way`}>{t.explore.way.title}</h3>
      <ol className={styles.way} aria-busy={way.isPending || lake.isPending}>
        <Stop name={t.explore.way.happened} tone="good">
          <Moment at={event.time} exact />
        </Stop>
        <Stop name={t.explore.way.received} tone={event.receivedtime === undefined ? "warn" : "good"}>
          {event.receivedtime === undefined ? t.explore.way.states.unknown : <Moment at={event.receivedtime} exact />}
        </Stop>
        {stationsOf(told, lake.data).map((station) => (
          <Stop key={station.name} name={t.explore.way[station.name]} tone={TONES[station.state]}>
            {station.name === "batch" && told?.batch ? null : way.isPending && station.state === "unknown" ? (
              t.states.loading
            ) : (
              <Badge tone={TONES[station.state]}>{t.explore.way.states[station.state]}</Badge>
            )}
            {station.name === "batch" && told?.batch && (
              <>
                <span>{t.explore.way.batchOf(told.batch.events, formats.count(told.batch.events))}</span>
                <code>{told.batch.id}</code>
                {told.batch.request_id !== null && (
                  <span>
                    {t.explore.way.request} <code>{told.batch.request_id}</code>
                  </span>
                )}
              </>
            )}
            {station.name === "lake" && (
              <>
                {lake.data !== undefined && lake.data > 0 && (
                  <span>
                    {t.explore.way.rows(lake.data)}{" "}
                    <Link
                      to="/explore/sql"
                      search={{ sql: `SELECT * FROM "${table}" WHERE id = '${event.id.replaceAll("'", "''")}'` }}
                    >
                      <code>{table}</code>
                    </Link>
                  </span>
                )}
                {told?.lake.committed_at && (
                  <span>
                    {t.explore.way.committed} <Moment at={told.lake.committed_at} />
                  </span>
                )}
                {told?.lake.object && <code>{told.lake.object}</code>}
              </>
            )}
            {station.name === "search" && (
              <>
                {told?.search.indexed_at && (
                  <span>
                    {t.explore.way.indexed} <Moment at={told.search.indexed_at} />
                  </span>
                )}
                <code>{_index}</code>
                <code>{_id}</code>
              </>
            )}
            {station.name === "quarantine" &&
              told?.quarantine.map((record) => (
                <span key={`${record.day}/${record.id}`}>
                  <Link to="/settings/quarantine" search={{ record: `${record.day}/${record.id}` }}>
                    {record.code}
                  </Link>{" "}
                  <Moment at={record.at} />
                </span>
              ))}
          </Stop>
        ))}
      </ol>
    </section>
  );
}

function Stop({ name, tone, children }: { name: string; tone: Tone; children: ReactNode }) {
  return (
    <li className={styles.stop} data-tone={tone}>
      <span className={styles.name}>{name}</span>
      <span className={styles.told}>{children}</span>
    </li>
  );
}

function isMoving(way: Way | null | undefined): boolean {
  return way?.lake.state === "in_flight" || way?.detect.state === "in_flight";
}
