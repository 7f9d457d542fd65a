import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useCallback, useEffect, useMemo, useState } from "react";
import { ApiError } from "../api/client.ts";
import { metric } from "../api/search.ts";
import { Chart } from "../charts/Chart.tsx";
import type { ChartData } from "../charts/data.ts";
import { Badge, Empty, Failure, Loading, type Tone } from "../design/Notice.tsx";
import { PageHead } from "../design/PageHead.tsx";
import { Panel } from "../design/Panel.tsx";
import { ScrollBox } from "../design/ScrollBox.tsx";
import table from "../design/Table.module.css";
import type { ExploreSearch } from "../explore/address.ts";
import type { Filter } from "../explore/filters.ts";
import { useLanguage } from "../language/language.tsx";
import { FreshnessMark, LostBand } from "../live/FreshnessMark.tsx";
import { freshnessOf, useLive } from "../live/live.ts";
import { RangePicker } from "../range/RangePicker.tsx";
import { rangeAddress, spanOf, type TimeRange } from "../range/range.ts";
import { monitorRange } from "./address.ts";
import {
  type Audit,
  askAlerts,
  askAudit,
  askGame,
  askRequests,
  askServed,
  askStatus,
  askTables,
  askTraffic,
  type SinkCounts,
  type Status,
} from "./ask.ts";
import {
  CLASSES,
  type FunctionHealth,
  freshness,
  health,
  ingestRate,
  percentile,
  plays,
  type RouteRow,
  requests,
  routes,
  successRates,
  visitors,
} from "./charts.ts";
import styles from "./MonitorPage.module.css";
import type { ServedRoute } from "./metrics.ts";
import { lagChart, type Sample, withSample } from "./samples.ts";

/** Routes of the server's own requests that are shown. */
const SERVED = 12;
/** The ledger looks at every file: once a minute is enough. */
const AUDIT_MS = 60_000;

export function MonitorPage() {
  const { t, formats } = useLanguage();
  const range = monitorRange(useSearch({ from: "/console/monitor" }));
  const navigate = useNavigate({ from: "/monitor" });

  // Each answer goes with the span that it was asked for, so that axes and values belong together.
  const traffic = useLive({
    key: ["traffic", range],
    ask: async (signal) => {
      const span = spanOf(range, Date.now());
      return { span, found: await askTraffic(span, signal) };
    },
  });
  const game = useLive({
    key: ["game", range],
    ask: async (signal) => {
      const span = spanOf(range, Date.now());
      return { span, found: await askGame(span, signal) };
    },
  });
  const http = useLive({
    key: ["requests", range],
    ask: async (signal) => {
      const span = spanOf(range, Date.now());
      return { span, found: await askRequests(span, signal) };
    },
  });
  const status = useLive({ key: ["status"], ask: askStatus });
  const tables = useLive({ key: ["tables"], ask: askTables });
  const alerts = useLive({ key: ["alerts"], ask: askAlerts });
  const served = useLive({ key: ["served"], ask: askServed });
  const audit = useLive({ key: ["audit"], ask: askAudit, everyMs: AUDIT_MS });
  const all = [traffic, game, http, status, tables, alerts];
  const fresh = freshnessOf(all);
  const retry = () => {
    for (const result of [...all, served, audit]) void result.refetch();
  };

  const seconds = useCallback((value: number) => formats.duration(value * 1_000), [formats]);
  const functions = useMemo(() => health(status.data?.queues ?? []), [status.data]);
  const samples = useSamples(status.dataUpdatedAt, functions);
  const charts = useMemo(
    () => ({
      rate: traffic.data && ingestRate(traffic.data.found, traffic.data.span, t.explore.others),
      visitors:
        game.data &&
        visitors(game.data.found, game.data.span, { visitors: t.monitor.visitors, players: t.monitor.players }),
      plays:
        game.data &&
        plays(game.data.found, game.data.span, { started: t.monitor.started, finished: t.monitor.finished }),
      rates: game.data && successRates(game.data.found, t.monitor.games),
      requests: http.data && requests(http.data.found, http.data.span),
      lag: samples.length > 0 ? lagChart(samples) : undefined,
    }),
    [traffic.data, game.data, http.data, samples, t],
  );
  const found = game.data?.found.aggregations;
  const results = found?.results as { doc_count?: number; middle?: unknown } | undefined;

  return (
    <>
      <PageHead title={t.pages.monitor}>
        <FreshnessMark freshness={fresh} />
        <RangePicker range={range} onChange={(next) => navigate({ search: rangeAddress(next) })} />
      </PageHead>
      <LostBand freshness={fresh} onRetry={retry} />

      <dl className={styles.figures}>
        <Figure name={t.monitor.visitors} value={counted(metric(found?.visitors, "distinct"), formats.count)} />
        <Figure name={t.monitor.players} value={counted(metric(found?.players, "distinct"), formats.count)} />
        <Figure name={t.monitor.finished} value={counted(results?.doc_count ?? null, formats.count)} />
        <Figure
          name={t.monitor.middleRate}
          value={counted(percentile(results?.middle, "50"), (v) => `${formats.percent(v)}%`)}
        />
        <Figure name={t.monitor.events} value={counted(traffic.data?.found.hits.total.value ?? null, formats.count)} />
        <Figure name={t.monitor.requests} value={counted(http.data?.found.hits.total.value ?? null, formats.count)} />
      </dl>

      <div className={styles.grid}>
        <ChartPanel title={t.monitor.rate} data={charts.rate} value={formats.decimal} explore={exploreFor(range)} />
        <ChartPanel
          title={t.monitor.requestsByStatus}
          data={charts.requests}
          value={formats.count}
          explore={exploreFor(range, { field: "type", is: "=", value: "http.access" })}
        />
        <ChartPanel
          title={t.monitor.visitorsAndPlayers}
          data={charts.visitors}
          value={formats.count}
          explore={exploreFor(range, undefined, "type:web.event OR type:game.start")}
        />
        <ChartPanel
          title={t.monitor.plays}
          data={charts.plays}
          value={formats.count}
          explore={exploreFor(range, undefined, "type:game.start OR type:game.result")}
        />
        <ChartPanel
          title={t.monitor.successRates}
          data={charts.rates}
          value={formats.count}
          explore={exploreFor(range, { field: "type", is: "=", value: "game.result" })}
        />
        <ChartPanel
          title={t.monitor.lag}
          note={t.monitor.lagNote}
          empty={t.monitor.noLag}
          data={charts.lag}
          value={seconds}
        />

        <Panel
          title={t.monitor.routes}
          actions={
            <ExploreLink
              explore={exploreFor(range, { field: "type", is: "=", value: "http.access" })}
              of={t.monitor.routes}
            />
          }
        >
          {http.data === undefined ? <Loading /> : <Routes rows={routes(http.data.found)} range={range} />}
        </Panel>
        <Panel title={t.monitor.served} note={t.monitor.servedNote}>
          {served.isPending && <Loading />}
          {served.error !== null &&
            (served.error instanceof ApiError && served.error.status < 500 && !served.error.isUnreachable ? (
              <Empty>{t.monitor.noServed}</Empty>
            ) : (
              <Failure error={served.error} onRetry={() => served.refetch()} />
            ))}
          {served.data && <Served rows={served.data} />}
        </Panel>
        <Panel title={t.monitor.health}>{status.data === undefined ? <Loading /> : <Health rows={functions} />}</Panel>
        <Panel title={t.monitor.tables}>
          {tables.data === undefined ? <Loading /> : <Tables rows={freshness(tables.data)} />}
        </Panel>
        <Panel title={t.monitor.ledger} note={t.monitor.ledgerNote}>
          {status.data === undefined ? <Loading /> : <Ledger status={status.data} audit={audit.data} />}
        </Panel>
        <Panel
          title={t.monitor.alerts}
          actions={
            <ExploreLink explore={{ q: "type:alert.fired OR type:alert.resolved", last: "7d" }} of={t.monitor.alerts} />
          }
        >
          {alerts.data === undefined ? (
            <Loading />
          ) : alerts.data.hits.hits.length === 0 ? (
            <Empty>{t.monitor.noAlerts}</Empty>
          ) : (
            <ul className={styles.alerts}>
              {alerts.data.hits.hits.map(({ _id, _source }) => (
                <li key={_id}>
                  <Badge tone={_source.type === "alert.fired" ? "bad" : "good"}>
                    {_source.type === "alert.fired" ? t.monitor.fired : t.monitor.resolved}
                  </Badge>
                  <Link
                    to="/explore"
                    search={{ event: _id, filters: [{ field: "type", is: "=", value: _source.type }], last: "30d" }}
                  >
                    <bdi>{messageOf(_source.data) ?? _source.subject ?? _source.type}</bdi>
                  </Link>
                  <time dateTime={_source.time}>{formats.moment(new Date(_source.time))}</time>
                </li>
              ))}
            </ul>
          )}
        </Panel>
      </div>
    </>
  );
}

function counted(value: number | null, show: (value: number) => string): string {
  return value === null ? "–" : show(value);
}

function messageOf(data: unknown): string | undefined {
  const message = (data as { message?: unknown } | undefined)?.message;
  return typeof message === "string" ? message : undefined;
}

/** The same range and the chart's own condition. */
function exploreFor(range: TimeRange, filter?: Filter, q?: string): ExploreSearch {
  return { ...rangeAddress(range), ...(filter ? { filters: [filter] } : {}), ...(q ? { q } : {}) };
}

function Figure({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

interface ChartPanelProps {
  title: string;
  note?: string;
  data: ChartData | undefined;
  value: (value: number) => string;
  empty?: string;
  explore?: ExploreSearch;
}

function ChartPanel({ title, note, data, value, empty, explore }: ChartPanelProps) {
  return (
    <Panel title={title} note={note} actions={explore && <ExploreLink explore={explore} of={title} />}>
      {data === undefined ? (
        <Loading />
      ) : (
        <Chart label={title} data={data} value={value} {...(empty ? { empty } : {})} />
      )}
    </Panel>
  );
}

function ExploreLink({ explore, of }: { explore: ExploreSearch; of: string }) {
  const { t } = useLanguage();
  return (
    <Link to="/explore" search={explore}>
      {t.monitor.explore}
      <span className="visually-hidden">: {of}</span>
    </Link>
  );
}

function Routes({ rows, range }: { rows: readonly RouteRow[]; range: TimeRange }) {
  const { t, formats } = useLanguage();
  if (rows.length === 0) return <Empty>{t.charts.empty}</Empty>;
  return (
    <ScrollBox label={t.monitor.routes}>
      <table className={table.table}>
        <thead>
          <tr>
            <th>{t.monitor.route}</th>
            <th className={table.right}>{t.monitor.requests}</th>
            {CLASSES.map((name) => (
              <th key={name} className={table.right}>
                {name}
              </th>
            ))}
            <th className={table.right}>{t.monitor.slow}</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.route}>
              <td className={styles.route}>
                {row.route === "–" ? (
                  "–"
                ) : (
                  <Link to="/explore" search={exploreFor(range, { field: "data.route", is: "=", value: row.route })}>
                    <bdi>{row.route}</bdi>
                  </Link>
                )}
              </td>
              <td className={table.right}>{formats.count(row.requests)}</td>
              {CLASSES.map((name) => (
                <td
                  key={name}
                  className={`${table.right} ${name === "5xx" && row.classes[name] > 0 ? styles.bad : ""}`}
                >
                  {row.classes[name] === 0 ? "" : formats.count(row.classes[name])}
                </td>
              ))}
              <td className={table.right}>{row.slow === null ? "" : formats.duration(row.slow)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </ScrollBox>
  );
}

function Served({ rows }: { rows: readonly ServedRoute[] }) {
  const { t, formats } = useLanguage();
  if (rows.length === 0) return <Empty>{t.charts.empty}</Empty>;
  return (
    <ScrollBox label={t.monitor.served}>
      <table className={table.table}>
        <thead>
          <tr>
            <th>{t.monitor.route}</th>
            <th className={table.right}>{t.monitor.requests}</th>
            <th>{t.monitor.status}</th>
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, SERVED).map((row) => (
            <tr key={`${row.method} ${row.route}`}>
              <td className={styles.route}>
                {row.method} {row.route}
              </td>
              <td className={table.right}>{formats.count(row.requests)}</td>
              <td className={styles.statuses}>
                {row.statuses.map(([status, count]) => (
                  <span key={status} className={status.startsWith("5") ? styles.bad : undefined}>
                    {status} × {formats.count(count)}
                  </span>
                ))}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </ScrollBox>
  );
}

const TONES: Record<FunctionHealth["state"], Tone> = { good: "good", busy: "warn", bad: "bad" };

function Health({ rows }: { rows: readonly FunctionHealth[] }) {
  const { t, formats } = useLanguage();
  return (
    <ScrollBox label={t.monitor.health}>
      <table className={table.table}>
        <thead>
          <tr>
            <th>{t.monitor.function}</th>
            <th>{t.monitor.state}</th>
            <th className={table.right}>{t.monitor.waiting}</th>
            <th className={table.right}>{t.monitor.inFlight}</th>
            <th className={table.right}>{t.monitor.oldest}</th>
            <th className={table.right}>{t.monitor.deadLetters}</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.name}>
              <td>{row.name}</td>
              <td>
                <Badge tone={TONES[row.state]}>{t.monitor.states[row.state]}</Badge>
              </td>
              <td className={table.right}>{formats.count(row.waiting)}</td>
              <td className={table.right}>{formats.count(row.inFlight)}</td>
              <td className={table.right}>{row.oldestMs === null ? "" : formats.duration(row.oldestMs)}</td>
              <td className={table.right}>
                {row.deadLetters > 0 ? <Link to="/settings/dead-letters">{formats.count(row.deadLetters)}</Link> : "0"}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </ScrollBox>
  );
}

function Tables({ rows }: { rows: readonly { type: string; events: number; last: number }[] }) {
  const { t, formats } = useLanguage();
  const now = useSeconds();
  if (rows.length === 0) return <Empty>{t.charts.empty}</Empty>;
  return (
    <ScrollBox label={t.monitor.tables}>
      <table className={table.table}>
        <thead>
          <tr>
            <th>{t.monitor.type}</th>
            <th className={table.right}>{t.monitor.events}</th>
            <th className={table.right}>{t.monitor.lastEvent}</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.type}>
              <td className={styles.route}>
                <Link to="/explore" search={{ filters: [{ field: "type", is: "=", value: row.type }], last: "all" }}>
                  <bdi>{row.type}</bdi>
                </Link>
              </td>
              <td className={table.right}>{formats.count(row.events)}</td>
              <td className={table.right}>
                <time dateTime={new Date(row.last).toISOString()} title={formats.moment(new Date(row.last))}>
                  {t.monitor.ago(formats.duration(Math.max(0, Math.floor((now - row.last) / 1_000)) * 1_000))}
                </time>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </ScrollBox>
  );
}

function Ledger({ status, audit }: { status: Status; audit: Audit | undefined }) {
  const { t, formats } = useLanguage();
  const { totals, checks, adds_up } = status.ledger;
  const sinks = Object.keys(checks).flatMap((name) => {
    const counts = totals[name];
    return typeof counts === "object" ? [{ name, counts: counts as SinkCounts }] : [];
  });
  const told = adds_up === null ? "moving" : adds_up && audit?.adds_up !== false ? "good" : "bad";
  const tone: Tone = told === "good" ? "good" : told === "bad" ? "bad" : "neutral";
  return (
    <>
      <p>
        <Badge tone={tone}>{t.monitor.ledgerStates[told]}</Badge>{" "}
        <span className={styles.sums}>
          {t.monitor.ledgerSums(
            formats.count(totals.received),
            formats.count(totals.accepted),
            formats.count(totals.rejected),
          )}
        </span>
      </p>
      <ScrollBox label={t.monitor.ledger}>
        <table className={table.table}>
          <thead>
            <tr>
              <th>{t.monitor.sink}</th>
              <th className={table.right}>{t.monitor.stored}</th>
              <th className={table.right}>{t.monitor.quarantined}</th>
              <th className={table.right}>{t.monitor.duplicates}</th>
              <th className={table.right}>{t.monitor.onTheWay}</th>
            </tr>
          </thead>
          <tbody>
            {sinks.map(({ name, counts }) => (
              <tr key={name}>
                <td>{name}</td>
                <td className={table.right}>{formats.count(counts.stored)}</td>
                <td className={table.right}>{formats.count(counts.quarantined)}</td>
                <td className={table.right}>{formats.count(counts.duplicates)}</td>
                <td className={table.right}>{formats.count(counts.in_flight)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </ScrollBox>
      {audit && audit.told.length > 0 && (
        <ul className={styles.problems}>
          {audit.told.map((problem) => (
            <li key={`${problem.sink}${problem.hour}${problem.event_type}`}>
              {[problem.sink, problem.hour, problem.event_type, problem.what].filter(Boolean).join(" · ")}
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

/** What the queues looked like since the page was opened. */
function useSamples(at: number, functions: readonly FunctionHealth[]): readonly Sample[] {
  const [samples, setSamples] = useState<readonly Sample[]>([]);
  useEffect(() => {
    if (at > 0) setSamples((before) => withSample(before, at, functions));
  }, [at, functions]);
  return samples;
}

/** Now, to the second. */
function useSeconds(): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1_000);
    return () => clearInterval(timer);
  }, []);
  return now;
}
