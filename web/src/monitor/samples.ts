import type { TimeData } from "../charts/data.ts";
import type { FunctionHealth } from "./charts.ts";

/** The server tells how long its queues are now, not how long they were: what was seen since the page was opened is kept here. */
export interface Sample {
  at: number;
  /** Age of the oldest message by function, in seconds. */
  lag: Readonly<Record<string, number>>;
}

/** Ten minutes at one in five seconds. */
const MOST = 120;

export function withSample(samples: readonly Sample[], at: number, functions: readonly FunctionHealth[]): Sample[] {
  if (samples.at(-1)?.at === at) return [...samples];
  const lag = Object.fromEntries(functions.map((one) => [one.name, (one.oldestMs ?? 0) / 1_000]));
  return [...samples, { at, lag }].slice(-MOST);
}

export function lagChart(samples: readonly Sample[]): TimeData {
  const names = Object.keys(samples.at(-1)?.lag ?? {});
  const [from, to] = [samples[0]?.at ?? 0, samples.at(-1)?.at ?? 1];
  return {
    kind: "time",
    shape: "lines",
    series: names.map((name) => ({ name, points: samples.map((s): [number, number] => [s.at, s.lag[name] ?? 0]) })),
    from,
    to: Math.max(to, from + 1),
  };
}
