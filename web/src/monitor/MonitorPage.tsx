import type { UseQueryResult } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useCallback, useEffect, useMemo, useState } from "react";
import { ApiError } from "../api/client.ts";
import { metric } from "../api/search.ts";
import { Chart } from "../charts/Chart.tsx";
import type { ChartData } from "../charts/data.ts";
import { type Column, DataTable } from "../design/DataTable.tsx";
import { Moment } from "../design/Moment.tsx";
import { Badge, Empty, Failure, Loading, type Tone } from "../design/Notice.tsx";
import { PageHead } from "../design/PageHead.tsx";
import { Panel } from "../design/Panel.tsx";
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
import { Incidents, OpenIncidents } from "./Incidents.tsx";
import { askIncidents } from "./incidents.ts";
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
    topics: ["events"],
    ask: async (signal) => {
      const span = spanOf(range, Date.now());
      return { span, found: await askTraffic(span, signal) };
    },
  });
  const game = useLive({
    key: ["game", range],
    topics: ["events"],
    ask: async (signal) => {
      const span = spanOf(range, Date.now());
      return { span, found: await askGame(span, signal) };
    },
  });
  const http = useLive({
    key: ["requests", range],
    topics: ["events"],
    ask: async (signal) => {
      const span = spanOf(range, Date.now());
      return { span, found: await askRequests(span, signal) };
    },
  });
  const status = useLive({ key: ["status"], topics: ["queues", "ledger"], ask: askStatus });
  const tables = useLive({ key: ["tables"], topics: ["events"], ask: askTables });
  const alerts = useLive({ key: ["alerts"], topics: ["events"], ask: askAlerts });
  const served = useLive({ key: ["served"], topics: ["metrics"], ask: askServed });
  const incidents = useLive({ key: ["incidents"], topics: ["incidents"], ask: askIncidents });
  const audit = useLive({ key: ["audit"], topics: ["ledger"], ask: askAudit, everyMs: AUDIT_MS });
  const all = [traffic, game, http, status, tables, alerts];
  const fresh = freshnessOf(all);
  const retry = () => {
    for (const result of [...all, served, incidents, audit]) void result.refetch();
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
      <OpenIncidents incidents={incidents.data ?? []} />

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
          <Told found={served} absent={t.monitor.noServed} />
          {served.data && <Served rows={served.data} />}
        </Panel>
        <Panel title={t.monitor.health}>{status.data === undefined ? <Loading /> : <Health rows={functions} />}</Panel>
        <Panel title={t.monitor.tables}>
          {tables.data === undefined ? <Loading /> : <Tables rows={freshness(tables.data)} />}
        </Panel>
        <Panel title={t.monitor.ledger} note={t.monitor.ledgerNote}>
          {status.data === undefined ? <Loading /> : <Ledger status={status.data} audit={audit.data} />}
        </Panel>
        <Panel title={t.monitor.incidents} note={t.monitor.incidentsNote}>
          {incidents.isPending && <Loading />}
          <Told found={incidents} absent={t.monitor.incidentsAbsent} />
          {incidents.data && <Incidents incidents={incidents.data} />}
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
                  <Moment at={_source.time} />
                </li>
              ))}
            </ul>
          )}
        </Panel>
      </div>
    </>
  );
}

/** What could not be asked: something that this server does not tell, or a failure. */
function Told({ found, absent }: { found: Pick<UseQueryResult, "error" | "refetch">; absent: string }) {
  const { error } = found;
  if (error === null) return null;
  if (error instanceof ApiError && error.status < 500 && !error.isUnreachable) return <Empty>{absent}</Empty>;
  return <Failure error={error} onRetry={() => found.refetch()} />;
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
    <DataTable
      label={t.monitor.routes}
      rows={rows}
      keyOf={(row) => row.route}
      columns={[
        {
          head: t.monitor.route,
          look: "cut",
          cell: ({ route }) =>
            route === "–" ? (
              "–"
            ) : (
              <Link to="/explore" search={exploreFor(range, { field: "data.route", is: "=", value: route })}>
                <bdi>{route}</bdi>
              </Link>
            ),
        },
        { head: t.monitor.requests, look: "right", cell: (row) => formats.count(row.requests) },
        ...CLASSES.map(
          (name): Column<RouteRow> => ({
            head: name,
            look: "right",
            cell: ({ classes }) =>
              classes[name] > 0 && (
                <span className={name === "5xx" ? styles.bad : undefined}>{formats.count(classes[name])}</span>
              ),
          }),
        ),
        { head: t.monitor.slow, look: "right", cell: (row) => row.slow !== null && formats.duration(row.slow) },
      ]}
    />
  );
}

function Served({ rows }: { rows: readonly ServedRoute[] }) {
  const { t, formats } = useLanguage();
  if (rows.length === 0) return <Empty>{t.charts.empty}</Empty>;
  return (
    <DataTable
      label={t.monitor.served}
      rows={rows.slice(0, SERVED)}
      keyOf={(row) => `${row.method} ${row.route}`}
      columns={[
        { head: t.monitor.route, look: "cut", cell: (row) => `${row.method} ${row.route}` },
        { head: t.monitor.requests, look: "right", cell: (row) => formats.count(row.requests) },
        {
          head: t.monitor.status,
          cell: (row) => (
            <div className={styles.statuses}>
              {row.statuses.map(([status, count]) => (
                <span key={status} className={status.startsWith("5") ? styles.bad : undefined}>
                  {status} × {formats.count(count)}
                </span>
              ))}
            </div>
          ),
        },
      ]}
    />
  );
}

const TONES: Record<FunctionHealth["state"], Tone> = { good: "good", busy: "warn", bad: "bad" };

function Health({ rows }: { rows: readonly FunctionHealth[] }) {
  const { t, formats } = useLanguage();
  return (
    <DataTable
      label={t.monitor.health}
      rows={rows}
      keyOf={(row) => row.name}
      columns={[
        { head: t.monitor.function, cell: (row) => row.name },
        {
          head: t.monitor.state,
          cell: (row) => <Badge tone={TONES[row.state]}>{t.monitor.states[row.state]}</Badge>,
        },
        { head: t.monitor.waiting, look: "right", cell: (row) => formats.count(row.waiting) },
        { head: t.monitor.inFlight, look: "right", cell: (row) => formats.count(row.inFlight) },
        {
          head: t.monitor.oldest,
          look: "right",
          cell: (row) => row.oldestMs !== null && formats.duration(row.oldestMs),
        },
        {
          head: t.monitor.deadLetters,
          look: "right",
          cell: ({ deadLetters }) =>
            deadLetters > 0 ? <Link to="/settings/dead-letters">{formats.count(deadLetters)}</Link> : "0",
        },
      ]}
    />
  );
}

function Tables({ rows }: { rows: readonly { type: string; events: number; last: number }[] }) {
  const { t, formats } = useLanguage();
  const now = useSeconds();
  if (rows.length === 0) return <Empty>{t.charts.empty}</Empty>;
  return (
    <DataTable
      label={t.monitor.tables}
      rows={rows}
      keyOf={(row) => row.type}
      columns={[
        {
          head: t.monitor.type,
          look: "cut",
          cell: ({ type }) => (
            <Link to="/explore" search={{ filters: [{ field: "type", is: "=", value: type }], last: "all" }}>
              <bdi>{type}</bdi>
            </Link>
          ),
        },
        { head: t.monitor.events, look: "right", cell: (row) => formats.count(row.events) },
        {
          head: t.monitor.lastEvent,
          look: "right",
          cell: ({ last }) => (
            <time dateTime={new Date(last).toISOString()} title={formats.moment(new Date(last))}>
              {t.monitor.ago(formats.duration(Math.max(0, Math.floor((now - last) / 1_000)) * 1_000))}
            </time>
          ),
        },
      ]}
    />
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
      <DataTable
        label={t.monitor.ledger}
        rows={sinks}
        keyOf={(sink) => sink.name}
        columns={[
          { head: t.monitor.sink, cell: (sink) => sink.name },
          { head: t.monitor.stored, look: "right", cell: ({ counts }) => formats.count(counts.stored) },
          { head: t.monitor.quarantined, look: "right", cell: ({ counts }) => formats.count(counts.quarantined) },
          { head: t.monitor.duplicates, look: "right", cell: ({ counts }) => formats.count(counts.duplicates) },
          { head: t.monitor.onTheWay, look: "right", cell: ({ counts }) => formats.count(counts.in_flight) },
        ]}
      />
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
