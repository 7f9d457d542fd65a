import { buckets, type Found, metric } from "../api/search.ts";
import type { CategoryData, TimeData } from "../charts/data.ts";
import { type Span, stepFor, wholeSteps } from "../range/range.ts";
import type { Queue } from "./ask.ts";

/** As in the questions: bars over the whole range. */
const BARS = 60;
const NAMED_TYPES = 5;

/** Events a second by type. */
export function ingestRate(found: Found, span: Span, others: string): TimeData {
  const perSecond = stepFor(span, BARS).ms / 1_000;
  const named = buckets(found.aggregations, "types")
    .slice(0, NAMED_TYPES)
    .map((bucket) => String(bucket.key));
  const points = new Map<string, [number, number][]>([...named, others].map((name) => [name, []]));
  for (const time of buckets(found.aggregations, "times")) {
    let left = time.doc_count;
    for (const type of buckets(time, "types")) {
      if (!named.includes(String(type.key))) continue;
      points.get(String(type.key))?.push([Number(time.key), type.doc_count / perSecond]);
      left -= type.doc_count;
    }
    if (left > 0) points.get(others)?.push([Number(time.key), left / perSecond]);
  }
  const series = [...points]
    .filter(([, values]) => values.length > 0)
    .map(([name, values]) => ({ name, points: values }));
  return { kind: "time", shape: "bars", stacked: true, series, ...bounds(found, span) };
}

/** Plays that were begun and that were finished. */
export function plays(found: Found, span: Span, names: { started: string; finished: string }): TimeData {
  return {
    kind: "time",
    shape: "bars",
    series: [
      { name: names.started, points: ofType(found, "game.start") },
      { name: names.finished, points: ofType(found, "game.result") },
    ],
    ...bounds(found, span),
  };
}

function ofType(found: Found, type: string): [number, number][] {
  return buckets(found.aggregations, "times").flatMap((time): [number, number][] => {
    const own = buckets(time, "types").find((bucket) => bucket.key === type);
    return own ? [[Number(time.key), own.doc_count]] : [];
  });
}

/** Different visitors and players in each step. */
export function visitors(found: Found, span: Span, names: { visitors: string; players: string }): TimeData {
  const { from, to, step } = bounds(found, span);
  const byTime = new Map(buckets(found.aggregations, "times").map((time) => [Number(time.key), time]));
  // A line between two moments with visitors would tell of visitors in between.
  const moments = Array.from({ length: Math.ceil((to - from) / step) }, (_, i) => from + i * step);
  const distinct = (name: "visitors" | "players") =>
    moments.map((at): [number, number] => [at, metric(byTime.get(at)?.[name], "distinct") ?? 0]);
  return {
    kind: "time",
    shape: "lines",
    series: [
      { name: names.visitors, points: distinct("visitors") },
      { name: names.players, points: distinct("players") },
    ],
    from,
    to,
  };
}

/** Games by their success rate in steps of ten; 100 has a bar of its own. */
export function successRates(found: Found, name: string): CategoryData {
  const results = found.aggregations?.results;
  const counts = new Map(buckets(results, "rates").map((bucket) => [Number(bucket.key), bucket.doc_count]));
  const steps = Array.from({ length: 11 }, (_, i) => i * 10);
  return {
    kind: "categories",
    shape: "bars",
    categories: steps.map((from) => (from === 100 ? "100" : `${from}–${from + 10}`)),
    series: [{ name, values: steps.map((from) => counts.get(from) ?? 0) }],
  };
}

export const CLASSES = ["2xx", "3xx", "4xx", "5xx"] as const;
export type StatusClass = (typeof CLASSES)[number];

/** Requests by class of status over time. */
export function requests(found: Found, span: Span): TimeData {
  const times = buckets(found.aggregations, "times");
  return {
    kind: "time",
    shape: "bars",
    stacked: true,
    series: CLASSES.map((name) => ({
      name,
      isBad: name === "5xx",
      points: times.flatMap((time): [number, number][] => {
        const count = classCount(time, name);
        return count > 0 ? [[Number(time.key), count]] : [];
      }),
    })),
    ...bounds(found, span),
  };
}

/** Of a histogram of the statuses in steps of a hundred: 404 is in the one that begins with 400. */
export function classCount(holder: unknown, name: StatusClass): number {
  const first = Number(name[0]) * 100;
  return buckets(holder, "classes").find((bucket) => bucket.key === first)?.doc_count ?? 0;
}

export interface RouteRow {
  route: string;
  requests: number;
  classes: Record<StatusClass, number>;
  /** Milliseconds that 95 % of the requests stay below. */
  slow: number | null;
}

export function routes(found: Found): RouteRow[] {
  return buckets(found.aggregations, "routes").map((bucket) => ({
    route: String(bucket.key),
    requests: bucket.doc_count,
    classes: Object.fromEntries(CLASSES.map((name) => [name, classCount(bucket, name)])) as Record<StatusClass, number>,
    slow: percentile(bucket.elapsed, "95"),
  }));
}

/** A percentile by its number: engines write `95`, `95.0`. */
export function percentile(holder: unknown, percent: string): number | null {
  const values = (holder as { values?: Record<string, number | null> } | undefined)?.values ?? {};
  const value = values[percent] ?? values[`${percent}.0`];
  return typeof value === "number" ? value : null;
}

/** Since when each table has had nothing new, the freshest first. */
export function freshness(found: Found): { type: string; events: number; last: number }[] {
  return buckets(found.aggregations, "types")
    .map((bucket) => ({ type: String(bucket.key), events: bucket.doc_count, last: metric(bucket, "last") ?? 0 }))
    .sort((a, b) => b.last - a.last);
}

export interface FunctionHealth {
  name: string;
  waiting: number;
  inFlight: number;
  oldestMs: number | null;
  deadLetters: number;
  state: "good" | "busy" | "bad";
}

/** A queue is late when its oldest message is. */
const LATE_MS = 30_000;

/** Each function by the queue before it: `ConvertQueue` is what convert has to do. */
export function health(queues: readonly Queue[]): FunctionHealth[] {
  return queues
    .filter((queue) => queue.dead_letter_queue !== null)
    .map((queue) => {
      const isLate = (queue.oldest_ms ?? 0) > LATE_MS;
      return {
        name: queue.name.replace(/Queue$/, "").toLowerCase(),
        waiting: queue.visible,
        inFlight: queue.in_flight,
        oldestMs: queue.oldest_ms,
        deadLetters: queue.dead_letters,
        state: queue.dead_letters > 0 ? "bad" : isLate ? "busy" : "good",
      };
    });
}

function bounds(found: Found, span: Span): { from: number; to: number; step: number } {
  const times = buckets(found.aggregations, "times").map((time) => Number(time.key));
  return wholeSteps(span, stepFor(span, BARS), times[0]);
}
