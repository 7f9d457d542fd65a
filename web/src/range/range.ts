/** A stretch of time: the last so-and-so long until now, or from one moment to another. */
export type TimeRange = { last: Last } | { from: string; to: string };

export const LASTS = ["15m", "1h", "6h", "24h", "7d", "30d", "all"] as const;
export type Last = (typeof LASTS)[number];

const MINUTE = 60_000;
const LENGTH_MS: Record<Exclude<Last, "all">, number> = {
  "15m": 15 * MINUTE,
  "1h": 60 * MINUTE,
  "6h": 360 * MINUTE,
  "24h": 1_440 * MINUTE,
  "7d": 7 * 1_440 * MINUTE,
  "30d": 30 * 1_440 * MINUTE,
};

/** In milliseconds since 1970; no `from` means since ever. */
export interface Span {
  from: number | null;
  to: number;
}

/** What it is at this moment. */
export function spanOf(range: TimeRange, now: number): Span {
  if ("last" in range) return { from: range.last === "all" ? null : now - LENGTH_MS[range.last], to: now };
  return { from: Date.parse(range.from), to: Date.parse(range.to) };
}

/** The range in a page's address, or the usual one where it says none or nonsense. */
export function readRange(search: Record<string, unknown>, usual: Last): TimeRange {
  const { last, from, to } = search;
  const known = LASTS.find((name) => name === last);
  if (known) return { last: known };
  if (typeof from === "string" && typeof to === "string" && Date.parse(from) < Date.parse(to)) return { from, to };
  return { last: usual };
}

/** The range as parameters of an address. */
export function rangeAddress(range: TimeRange): { last?: Last; from?: string; to?: string } {
  return "last" in range ? { last: range.last } : { from: range.from, to: range.to };
}

/** Widths of bars that people know, in ms, and as the search names them. */
const STEPS: readonly [ms: number, name: string][] = [
  [1_000, "1s"],
  [5_000, "5s"],
  [10_000, "10s"],
  [30_000, "30s"],
  [MINUTE, "1m"],
  [5 * MINUTE, "5m"],
  [10 * MINUTE, "10m"],
  [30 * MINUTE, "30m"],
  [60 * MINUTE, "1h"],
  [180 * MINUTE, "3h"],
  [720 * MINUTE, "12h"],
  [1_440 * MINUTE, "1d"],
  [7 * 1_440 * MINUTE, "7d"],
  [30 * 1_440 * MINUTE, "30d"],
  [365 * 1_440 * MINUTE, "365d"],
];

export interface Step {
  ms: number;
  name: string;
}

/** The finest step that makes at most `bars` bars of a span. */
export function stepFor(span: Span, bars: number): Step {
  const length = span.from === null ? Number.POSITIVE_INFINITY : span.to - span.from;
  const found = STEPS.find(([ms]) => length / ms <= bars) ?? (STEPS.at(-1) as [number, string]);
  return { ms: found[0], name: found[1] };
}

/** The span in whole steps, so that the first and the last bar have room; without a start, from the first thing there is. */
export function wholeSteps(
  span: Span,
  { ms }: Step,
  first: number | undefined,
): { from: number; to: number; step: number } {
  const from = span.from ?? first ?? span.to - ms;
  return { from: Math.floor(from / ms) * ms, to: Math.ceil(span.to / ms) * ms, step: ms };
}

/** The condition for a search, on the event's own time unless another field is named. */
export function rangeFilter(span: Span, field = "time"): object[] {
  const lower = span.from === null ? {} : { gte: new Date(span.from).toISOString() };
  return [{ range: { [field]: { ...lower, lt: new Date(span.to).toISOString() } } }];
}
