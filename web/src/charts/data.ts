/** What a chart shows, without how: the canvas and the table beside it are made from the same values. */
export type ChartData = TimeData | CategoryData;

export interface TimeData {
  kind: "time";
  shape: "bars" | "lines";
  stacked?: boolean;
  /** Milliseconds since 1970, ascending; missing ones are gaps. */
  series: TimeSeries[];
  from: number;
  to: number;
  /** Width of a bar in milliseconds; a bar's time is its beginning. */
  step?: number;
}

export interface TimeSeries {
  name: string;
  points: readonly (readonly [at: number, value: number])[];
  /** What it counts is bad, and looks so. */
  isBad?: boolean;
}

export interface CategoryData {
  kind: "categories";
  shape: "bars" | "lines";
  stacked?: boolean;
  /** Bars lie, for long names. */
  lying?: boolean;
  categories: readonly string[];
  series: { name: string; values: readonly (number | null)[] }[];
}

/** Each series at each moment: canvases stack by place in the list, and not by time. */
export function filled(data: TimeData): TimeSeries[] {
  const times = [...new Set(data.series.flatMap((s) => s.points.map(([at]) => at)))].sort((a, b) => a - b);
  return data.series.map(({ name, points }) => {
    const known = new Map(points);
    return { name, points: times.map((at): [number, number] => [at, known.get(at) ?? 0]) };
  });
}

export interface Rows {
  columns: string[];
  rows: { head: string; values: (number | null)[] }[];
}

/** The same as rows: one for each moment or category, one column for each series. */
export function rowsOf(data: ChartData, moment: (at: Date) => string): Rows {
  const columns = data.series.map((series) => series.name);
  if (data.kind === "categories") {
    return {
      columns,
      rows: data.categories.map((head, i) => ({ head, values: data.series.map((s) => s.values[i] ?? null) })),
    };
  }
  const times = [...new Set(data.series.flatMap((s) => s.points.map(([at]) => at)))].sort((a, b) => a - b);
  const byTime = data.series.map((s) => new Map(s.points));
  return {
    columns,
    rows: times.map((at) => ({ head: moment(new Date(at)), values: byTime.map((points) => points.get(at) ?? null) })),
  };
}

export function isEmpty(data: ChartData): boolean {
  return data.kind === "categories"
    ? data.series.every((s) => s.values.every((value) => value === null || value === 0))
    : data.series.every((s) => s.points.every(([, value]) => value === 0));
}
