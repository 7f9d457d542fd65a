import { call, callText } from "../api/client.ts";
import { EVERYWHERE, type Found, search } from "../api/search.ts";
import { turns } from "../api/turns.ts";
import { rangeFilter, type Span, stepFor } from "../range/range.ts";
import { readMetrics, type ServedRoute, servedRoutes } from "./metrics.ts";

/** Bars of a chart over the whole range. */
const BARS = 60;

export interface Queue {
  name: string;
  visible: number;
  in_flight: number;
  events: number | null;
  bytes: number;
  oldest_ms: number | null;
  dead_letter_queue: string | null;
  dead_letters: number;
}

export interface SinkCounts {
  stored: number;
  quarantined: number;
  duplicates: number;
  off: number;
  in_flight: number;
}

export interface Status {
  server: { version: string; time: string };
  queues: Queue[];
  ledger: {
    totals: { received: number; accepted: number; rejected: number } & Record<string, number | SinkCounts>;
    checks: Record<
      string,
      { in_flight: number; waiting: number | null; adds_up: boolean | null; oldest_hour: string | null }
    >;
    /** None while events are on their way and it cannot be said. */
    adds_up: boolean | null;
    note: string;
  };
}

export interface Audit {
  adds_up: boolean;
  problems: number;
  told: { sink?: string; hour?: string; event_type?: string; what?: string }[];
}

export function askStatus(signal: AbortSignal): Promise<Status> {
  return call<Status>("GET", "/v1/status", { signal });
}

export function askAudit(signal: AbortSignal): Promise<Audit> {
  return turns.take(() => call<Audit>("GET", "/v1/ledger", { signal }), signal);
}

/** The server's own requests by route and status. */
export async function askServed(signal: AbortSignal): Promise<ServedRoute[]> {
  return servedRoutes(readMetrics(await turns.take(() => callText("/metrics", signal), signal)));
}

/** What came in, by receive time, with the latest receive time of each type. */
export function askTraffic(span: Span, signal: AbortSignal): Promise<Found> {
  const body = {
    size: 0,
    query: { bool: { filter: rangeFilter(span, "receivedtime") } },
    track_total_hits: true,
    aggs: {
      times: {
        date_histogram: { field: "receivedtime", fixed_interval: stepFor(span, BARS).name, min_doc_count: 1 },
        aggs: { types: { terms: { field: "type", size: 20 } } },
      },
      types: { terms: { field: "type", size: 20 } },
    },
  };
  return search(EVERYWHERE, body, signal);
}

/** Since when each table has had nothing new, over all times. */
export function askTables(signal: AbortSignal): Promise<Found> {
  const aggs = { types: { terms: { field: "type", size: 100 }, aggs: { last: { max: { field: "receivedtime" } } } } };
  return search(EVERYWHERE, { size: 0, track_total_hits: false, aggs }, signal);
}

export const GAME_INDICES = "sluice-game_start-*,sluice-game_result-*,sluice-web_event-*";

/** Visitors, plays and how well they went. */
export function askGame(span: Span, signal: AbortSignal): Promise<Found> {
  const step = { fixed_interval: stepFor(span, BARS).name, min_doc_count: 1 };
  const body = {
    size: 0,
    query: { bool: { filter: rangeFilter(span) } },
    aggs: {
      players: { filter: { term: { type: "game.start" } }, aggs: { distinct: { cardinality: { field: "userid" } } } },
      visitors: {
        filter: { term: { type: "web.event" } },
        aggs: { distinct: { cardinality: { field: "sessionid" } } },
      },
      times: {
        date_histogram: { field: "time", ...step },
        aggs: {
          types: { terms: { field: "type", size: 10 } },
          visitors: {
            filter: { term: { type: "web.event" } },
            aggs: { distinct: { cardinality: { field: "sessionid" } } },
          },
          players: {
            filter: { term: { type: "game.start" } },
            aggs: { distinct: { cardinality: { field: "userid" } } },
          },
        },
      },
      results: {
        filter: { term: { type: "game.result" } },
        aggs: {
          rates: { histogram: { field: "data.success_rate", interval: 10, min_doc_count: 0 } },
          middle: { percentiles: { field: "data.success_rate", percents: [50] } },
        },
      },
    },
  };
  return search(GAME_INDICES, body, signal);
}

export const HTTP_INDICES = "sluice-http_access-*";

/** Requests by status over time, and by route. */
export function askRequests(span: Span, signal: AbortSignal): Promise<Found> {
  // One look at each status, where a filter for each class would be four.
  const classes = { histogram: { field: "data.status", interval: 100, min_doc_count: 1 } };
  const body = {
    size: 0,
    query: { bool: { filter: rangeFilter(span) } },
    track_total_hits: true,
    aggs: {
      times: {
        date_histogram: { field: "time", fixed_interval: stepFor(span, BARS).name, min_doc_count: 1 },
        aggs: { classes },
      },
      routes: {
        terms: { field: "data.route", size: 12, missing: "–" },
        aggs: { classes, elapsed: { percentiles: { field: "data.elapsed_ms", percents: [95] } } },
      },
    },
  };
  return search(HTTP_INDICES, body, signal);
}

export const ALERT_INDICES = "sluice-alert_fired-*,sluice-alert_resolved-*";

export function askAlerts(signal: AbortSignal): Promise<Found> {
  return search(ALERT_INDICES, { size: 12, sort: [{ time: { order: "desc" } }, { id: { order: "asc" } }] }, signal);
}
