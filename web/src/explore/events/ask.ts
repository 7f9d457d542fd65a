import { call } from "../../api/client.ts";
import { buckets, EVERYWHERE, type Found, type Hit, type StoredEvent, search } from "../../api/search.ts";
import type { TimeData } from "../../charts/data.ts";
import { rangeFilter, type Span, type Step, stepFor, wholeSteps } from "../../range/range.ts";
import { type Filter, queryOf } from "../filters.ts";

export const PAGE = 50;
/** Types with a colour of their own in the histogram; the rest is one. */
const TYPES = 5;

export interface EventsAsked {
  text: string | undefined;
  filters: readonly Filter[];
  span: Span;
}

/** Newest first; what else stands in the order only makes it the same each time. */
const ORDER = [{ time: { order: "desc" } }, { id: { order: "asc" } }, { source: { order: "asc" } }];

/** A page of events; the first brings the counts as well. */
export function askEvents(asked: EventsAsked, after: unknown[] | null, signal: AbortSignal): Promise<Found> {
  const query = queryOf(asked.text, asked.filters, rangeFilter(asked.span));
  const page = { query, size: PAGE, sort: ORDER, track_total_hits: true };
  if (after !== null) return search(EVERYWHERE, { ...page, search_after: after }, signal);
  const step = histogramStep(asked.span);
  const aggs = {
    types: { terms: { field: "type", size: 20 } },
    sources: { terms: { field: "source", size: 20 } },
    times: {
      date_histogram: { field: "time", fixed_interval: step.name, min_doc_count: 1 },
      aggs: { types: { terms: { field: "type", size: 20 } } },
    },
  };
  return search(EVERYWHERE, { ...page, aggs }, signal);
}

export function histogramStep(span: Span): Step {
  return stepFor(span, 90);
}

/** One event by its document id. */
export async function askEvent(id: string, signal: AbortSignal): Promise<Hit | null> {
  const found = await search(EVERYWHERE, { query: { ids: { values: [id] } }, size: 1 }, signal);
  return found.hits.hits[0] ?? null;
}

/** How many rows the lake has for an event. */
export async function askLake(table: string, event: StoredEvent, signal: AbortSignal): Promise<number> {
  // Only the partitions around the event's own time are read; the text is made here from a number and not from the event.
  const at = Date.parse(event.time);
  const moment = (ms: number) => new Date(ms).toISOString().slice(0, 23).replace("T", " ");
  const where = `id = $1 AND source = $2 AND time >= TIMESTAMP '${moment(at - 1_000)}' AND time < TIMESTAMP '${moment(at + 1_000)}'`;
  const answer = await call<{ rows: unknown[][] }>("POST", "/v1/sql", {
    body: {
      sql: `SELECT count(*) FROM "${table.replaceAll('"', "")}" WHERE ${where}`,
      parameters: [event.id, event.source],
    },
    signal,
  });
  return Number(answer.rows[0]?.[0] ?? 0);
}

/** The counts by time as a chart: the most frequent types by name, the others together. */
export function histogramOf(found: Found, span: Span, others: string): TimeData {
  const types = buckets(found.aggregations, "types");
  const named = types.slice(0, TYPES).map((bucket) => String(bucket.key));
  const times = buckets(found.aggregations, "times");
  const points = new Map<string, [number, number][]>(named.map((name) => [name, []]));
  const rest: [number, number][] = [];
  for (const time of times) {
    const at = Number(time.key);
    let left = time.doc_count;
    for (const type of buckets(time, "types")) {
      const own = points.get(String(type.key));
      if (own === undefined) continue;
      own.push([at, type.doc_count]);
      left -= type.doc_count;
    }
    if (left > 0) rest.push([at, left]);
  }
  const series = named.map((name) => ({ name, points: points.get(name) ?? [] }));
  if (rest.length > 0) series.push({ name: others, points: rest });
  return {
    kind: "time",
    shape: "bars",
    stacked: true,
    series,
    ...wholeSteps(span, histogramStep(span), times[0] && Number(times[0].key)),
  };
}
