import type { ChartData } from "../../charts/data.ts";
import type { SqlResult } from "./ask.ts";

const NUMBERS = /^(tinyint|smallint|int|integer|bigint|float|real|double|decimal)/;
const TIMES = /^(timestamp|date)/;
/** More are no chart any more. */
const MOST_CATEGORIES = 60;
const MOST_SERIES = 6;

/** A result as a chart: the first column that is no number against the columns that are; none where that makes no sense. */
export function chartOf(result: SqlResult): ChartData | null {
  const numbers = result.columns.flatMap((column, i) => (NUMBERS.test(column.type) ? [i] : []));
  const head = result.columns.findIndex((column) => !NUMBERS.test(column.type));
  const series = numbers.slice(0, MOST_SERIES);
  if (head < 0 || series.length === 0 || result.rows.length < 2) return null;
  if (TIMES.test(result.columns[head]?.type ?? "")) return overTime(result, head, series);
  if (result.rows.length > MOST_CATEGORIES) return null;
  return {
    kind: "categories",
    shape: "bars",
    categories: result.rows.map((row) => String(row[head] ?? "–")),
    series: series.map((i) => ({
      name: result.columns[i]?.name ?? "",
      values: result.rows.map((row) => numberOf(row[i])),
    })),
  };
}

function overTime(result: SqlResult, head: number, series: readonly number[]): ChartData | null {
  const times = result.rows.map((row) => momentOf(row[head]));
  const known = times.filter((at) => !Number.isNaN(at));
  if (known.length < 2) return null;
  return {
    kind: "time",
    shape: "lines",
    from: known.reduce((a, b) => Math.min(a, b)),
    to: known.reduce((a, b) => Math.max(a, b)),
    series: series.map((i) => ({
      name: result.columns[i]?.name ?? "",
      points: result.rows
        .flatMap((row, n): [number, number][] => {
          const [at, value] = [times[n] ?? Number.NaN, numberOf(row[i])];
          return Number.isNaN(at) || value === null ? [] : [[at, value]];
        })
        .sort(([a], [b]) => a - b),
    })),
  };
}

/** Decimals come as text, to keep their digits. */
function numberOf(value: unknown): number | null {
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  return typeof number === "number" && Number.isFinite(number) ? number : null;
}

/** A time of the lake is UTC, whether or not it says so. */
function momentOf(value: unknown): number {
  if (typeof value !== "string") return Number.NaN;
  const text = value.trim().replace(" ", "T");
  return Date.parse(/T/.test(text) && !/(Z|[+-]\d\d:?\d\d)$/.test(text) ? `${text}Z` : text);
}
