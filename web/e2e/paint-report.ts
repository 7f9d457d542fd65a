import type { FullResult, Reporter, TestCase, TestResult } from "@playwright/test/reporter";
import type { Visit } from "./visit.ts";

type Seen = Omit<Visit, "calls"> & { name: string };

/** Prints a row for each page: the medians of its visits. */
export default class PaintReport implements Reporter {
  #visits = new Map<string, Seen[]>();

  onTestEnd(test: TestCase, result: TestResult): void {
    if (result.status !== "passed") process.stderr.write(`${test.title}: ${result.error?.message ?? result.status}\n`);
    for (const { type, description } of result.annotations) {
      if (type !== "visit") continue;
      const seen = JSON.parse(description ?? "") as Seen;
      this.#visits.set(seen.name, [...(this.#visits.get(seen.name) ?? []), seen]);
    }
  }

  onEnd(result: FullResult): void {
    const lines = ["| page | first paint, ms | largest paint, ms | requests | KB |", "|---|---:|---:|---:|---:|"];
    for (const [name, visits] of this.#visits) {
      const of = (value: (seen: Seen) => number) => Math.round(median(visits.map(value)));
      const times = [of((seen) => seen.firstPaintMs), of((seen) => seen.largestPaintMs)];
      const sizes = [of((seen) => seen.requests), of((seen) => seen.bytes / 1_024)];
      lines.push(`| ${[name, ...times, ...sizes].join(" | ")} |`);
    }
    process.stdout.write(`${lines.join("\n")}\n`);
    if (result.status !== "passed") process.exitCode = 1;
  }
}

function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
