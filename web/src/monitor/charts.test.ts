import { describe, expect, test } from "vitest";
import type { Found } from "../api/search.ts";
import type { Queue } from "./ask.ts";
import {
  classCount,
  freshness,
  health,
  ingestRate,
  percentile,
  plays,
  requests,
  routes,
  successRates,
  visitors,
} from "./charts.ts";
import { lagChart, type Sample, withSample } from "./samples.ts";

const found = (aggregations: Record<string, unknown>): Found => ({
  took: 1,
  hits: { total: { value: 0, relation: "eq" }, hits: [] },
  aggregations,
});
const list = (...buckets: object[]) => ({ buckets });
const HOUR = { from: 0, to: 3_600_000 };

test("the rate of events is by second, whatever the width of a bar", () => {
  const chart = ingestRate(
    found({
      types: list({ key: "a", doc_count: 120 }),
      times: list({
        key: 60_000,
        doc_count: 180,
        types: list({ key: "a", doc_count: 120 }, { key: "z", doc_count: 60 }),
      }),
    }),
    HOUR,
    "others",
  );
  expect(chart.series).toEqual(
    [
      { name: "a", points: [[60_000, 2]] },
      { name: "z", points: [] },
    ].map((s) => (s.name === "z" ? { name: "others", points: [[60_000, 1]] } : s)),
  );
});

test("plays begun and finished stand side by side", () => {
  const times = list({
    key: 5,
    doc_count: 3,
    types: list({ key: "game.start", doc_count: 2 }, { key: "game.result", doc_count: 1 }),
  });
  const chart = plays(found({ times }), HOUR, { started: "s", finished: "f" });
  expect(chart.series).toEqual([
    { name: "s", points: [[5, 2]] },
    { name: "f", points: [[5, 1]] },
  ]);
});

test("between visits there are no visitors", () => {
  const time = (key: number, n: number) => ({
    key,
    doc_count: n,
    visitors: { distinct: { value: n } },
    players: { distinct: { value: 0 } },
  });
  const chart = visitors(
    found({ times: list(time(0, 3), time(180_000, 2)) }),
    { from: 0, to: 300_000 },
    { visitors: "v", players: "p" },
  );
  const values = chart.series[0]?.points ?? [];
  expect(values.filter(([, value]) => value > 0)).toEqual([
    [0, 3],
    [180_000, 2],
  ]);
  expect(values).toHaveLength(60);
});

test("success rates fall into steps of ten, and 100 is its own", () => {
  const chart = successRates(
    found({
      results: { rates: list({ key: 0, doc_count: 1 }, { key: 90, doc_count: 4 }, { key: 100, doc_count: 2 }) },
    }),
    "n",
  );
  expect(chart.categories).toEqual([
    "0–10",
    "10–20",
    "20–30",
    "30–40",
    "40–50",
    "50–60",
    "60–70",
    "70–80",
    "80–90",
    "90–100",
    "100",
  ]);
  expect(chart.series[0]?.values).toEqual([1, 0, 0, 0, 0, 0, 0, 0, 0, 4, 2]);
});

describe("requests", () => {
  const classes = list({ key: 200, doc_count: 7 }, { key: 500, doc_count: 1 });

  test("are counted by class", () => {
    expect([classCount({ classes }, "2xx"), classCount({ classes }, "4xx"), classCount(undefined, "2xx")]).toEqual([
      7, 0, 0,
    ]);
    const chart = requests(found({ times: list({ key: 9, doc_count: 8, classes }) }), HOUR);
    expect(chart.series.map((s) => s.points)).toEqual([[[9, 7]], [], [], [[9, 1]]]);
    expect(chart.series.map((s) => s.isBad)).toEqual([false, false, false, true]);
  });

  test("by route say how slow the slow ones are", () => {
    const rows = routes(
      found({ routes: list({ key: "/a", doc_count: 8, classes, elapsed: { values: { "95.0": 12.5 } } }) }),
    );
    expect(rows).toEqual([
      { route: "/a", requests: 8, classes: { "2xx": 7, "3xx": 0, "4xx": 0, "5xx": 1 }, slow: 12.5 },
    ]);
    expect(percentile({ values: { "95": null } }, "95")).toBeNull();
  });
});

test("the freshest table comes first", () => {
  const rows = freshness(
    found({
      types: list({ key: "old", doc_count: 1, last: { value: 5 } }, { key: "new", doc_count: 2, last: { value: 9 } }),
    }),
  );
  expect(rows.map((row) => row.type)).toEqual(["new", "old"]);
});

const queue = (name: string, more: Partial<Queue>): Queue => ({
  name,
  visible: 0,
  in_flight: 0,
  events: 0,
  bytes: 0,
  oldest_ms: null,
  dead_letter_queue: `${name}Dead`,
  dead_letters: 0,
  ...more,
});

test("a function is as well as the queue before it", () => {
  const rows = health([
    queue("ConvertQueue", {}),
    queue("IndexQueue", { oldest_ms: 31_000, visible: 5 }),
    queue("DetectQueue", { dead_letters: 1 }),
    queue("DeadLetterQueue", { dead_letter_queue: null, visible: 9 }),
  ]);
  expect(rows.map(({ name, state }) => [name, state])).toEqual([
    ["convert", "good"],
    ["index", "busy"],
    ["detect", "bad"],
  ]);
});

test("samples are kept for ten minutes, each once", () => {
  let samples: Sample[] = [];
  const functions = health([queue("ConvertQueue", { oldest_ms: 2_000 })]);
  for (let i = 0; i < 200; i += 1) samples = withSample(withSample(samples, i, functions), i, functions);
  expect(samples).toHaveLength(120);
  const chart = lagChart(samples);
  expect([chart.from, chart.to, chart.series[0]?.points[0]]).toEqual([80, 199, [80, 2]]);
});
