import { describe, expect, test } from "vitest";
import {
  appearsAt,
  areApart,
  click,
  delayAfter,
  digitOf,
  type Game,
  isOver,
  layout,
  lifetime,
  MIN_FIELD,
  miss,
  NEW_GAME,
  neighbour,
  nextChangeAt,
  resultOf,
  SIDE,
  SQUARES,
  shownBy,
  vanishesAt,
  visibleAt,
} from "./game.ts";

const ALL = Array.from({ length: SQUARES }, (_, i) => i + 1);

// Written out by hand from the spec, so that a slip in the formula is not repeated here.
const DELAYS = [
  1_878, 1_755.75, 1_633.5, 1_511.25, 1_389, 1_266.75, 1_144.5, 1_022.25, 900, 860, 820, 780, 740, 700, 660, 620, 580,
  540, 500, 460, 420, 400,
];
const LIFETIMES = [
  7_000, 6_722.222, 6_444.444, 6_166.667, 5_888.889, 5_611.111, 5_333.333, 5_055.556, 4_777.778, 4_500, 5_000,
  4_833.333, 4_666.667, 4_500, 4_333.333, 4_166.667, 4_000, 3_833.333, 3_666.667, 3_500, 3_333.333, 3_166.667, 3_000,
  2_833.333, 2_666.667,
];

describe("timings of the spec", () => {
  test.each(ALL)("after square %i", (n) => {
    expect(delayAfter(n)).toBeCloseTo(DELAYS[n - 1] ?? 400, 2);
  });

  test.each(ALL)("lifetime of square %i", (n) => {
    expect(lifetime(n)).toBeCloseTo(LIFETIMES[n - 1] ?? 2_500, 2);
  });

  test.each(ALL)("square %i appears when the delays before it are over", (n) => {
    const before = ALL.filter((m) => m < n).reduce((sum, m) => sum + (DELAYS[m - 1] ?? 400), 0);
    expect(appearsAt(n)).toBeCloseTo(before, 2);
  });

  test("a game without a click lasts 33.9 seconds", () => {
    expect(vanishesAt(SQUARES)).toBeCloseTo(33_881, 0);
    expect(Math.max(...ALL.map(vanishesAt))).toBe(vanishesAt(SQUARES));
  });
});

describe("places", () => {
  const fields = [MIN_FIELD, { width: 360, height: 640 }, { width: 1_920, height: 1_080 }, { width: 640, height: 320 }];
  const seeds = Array.from({ length: 100 }, (_, i) => i * 7_919);

  test.each(fields)("on $width × $height no square overlaps another or leaves the field", (field) => {
    for (const seed of seeds) {
      const places = layout(seed, field);
      expect(places).toHaveLength(SQUARES);
      for (const [i, place] of places.entries()) {
        expect(place.x).toBeGreaterThanOrEqual(0);
        expect(place.y).toBeGreaterThanOrEqual(0);
        expect(place.x + SIDE).toBeLessThanOrEqual(field.width);
        expect(place.y + SIDE).toBeLessThanOrEqual(field.height);
        for (const [j, other] of places.slice(0, i).entries()) {
          if (vanishesAt(j + 1) > appearsAt(i + 1))
            expect(areApart(place, other, 0), `${seed}: ${j} and ${i}`).toBe(true);
        }
      }
    }
  });

  test("come from the seed", () => {
    const field = { width: 800, height: 600 };
    expect(layout(42, field)).toEqual(layout(42, field));
    expect(layout(42, field)).not.toEqual(layout(43, field));
  });

  test("reach into all corners of the field", () => {
    const places = seeds.flatMap((seed) => layout(seed, { width: 360, height: 640 }));
    expect(Math.min(...places.map((p) => p.x))).toBeLessThan(5);
    expect(Math.max(...places.map((p) => p.x + SIDE))).toBeGreaterThan(355);
    expect(Math.max(...places.map((p) => p.y + SIDE))).toBeGreaterThan(635);
  });

  test("there are none in a field that is too small", () => {
    expect(() => layout(1, { width: 319, height: 640 })).toThrow(RangeError);
  });
});

describe("play", () => {
  test("the first square is there at once, the second after its delay", () => {
    expect(visibleAt(NEW_GAME, 0)).toEqual([1]);
    expect(visibleAt(NEW_GAME, 1_877.9)).toEqual([1]);
    expect(visibleAt(NEW_GAME, 1_878)).toEqual([1, 2]);
  });

  test("a square is gone when its time is over, to the moment", () => {
    expect(visibleAt(NEW_GAME, 6_999.9)).toContain(1);
    expect(visibleAt(NEW_GAME, 7_000)).not.toContain(1);
  });

  test("a click counts once, and only while the square is there", () => {
    const once = click(NEW_GAME, 1, 500);
    expect(once.clicks.size).toBe(1);
    expect(click(once, 1, 600)).toBe(once);
    expect(click(NEW_GAME, 2, 500)).toBe(NEW_GAME);
    expect(click(NEW_GAME, 1, 7_000)).toBe(NEW_GAME);
    expect(visibleAt(once, 600)).toEqual([]);
  });

  test("a game played to the last square at once is perfect, and over with the last click", () => {
    let game: Game = NEW_GAME;
    for (const n of ALL) {
      expect(isOver(game, appearsAt(n))).toBe(false);
      game = click(game, n, appearsAt(n) + 250);
    }
    const end = appearsAt(SQUARES) + 250;
    expect(isOver(game, end)).toBe(true);
    expect(resultOf(game, end)).toEqual({
      total_squares: 50,
      clicked_count: 50,
      success_rate: 100,
      reaction_ms: Array.from({ length: 50 }, () => 250),
      missed_clicks: 0,
      duration_ms: Math.round(end),
    });
  });

  test("clicks on the background are counted beside", () => {
    const game = miss(miss(click(NEW_GAME, 1, 100)));
    const result = resultOf(game, 33_881);
    expect([result.missed_clicks, result.clicked_count, result.success_rate]).toEqual([2, 1, 2]);
  });

  test("going from change to change meets every square and ends", () => {
    let t: number | undefined = 0;
    const seen = new Set<number>();
    let steps = 0;
    while (t !== undefined) {
      for (const n of visibleAt(NEW_GAME, t)) seen.add(n);
      const next = nextChangeAt(NEW_GAME, t);
      if (next !== undefined) expect(next).toBeGreaterThan(t);
      if (next === undefined) expect(isOver(NEW_GAME, t)).toBe(true);
      t = next;
      steps += 1;
      expect(steps).toBeLessThan(200);
    }
    expect(seen.size).toBe(SQUARES);
  });

  test("how many were shown", () => {
    expect([0, 1_878, 60_000].map(shownBy)).toEqual([1, 2, 50]);
  });
});

describe("keyboard", () => {
  test("each square has a key, and no two on the screen have the same", () => {
    for (const n of ALL) {
      expect(digitOf(n)).toMatch(/^\d$/);
      const together = visibleAt(NEW_GAME, appearsAt(n)).map(digitOf);
      expect(new Set(together).size).toBe(together.length);
    }
  });

  test("an arrow leads to the nearest square in its direction", () => {
    const places = new Map([
      [1, { x: 100, y: 100 }],
      [2, { x: 200, y: 110 }],
      [3, { x: 300, y: 100 }],
      [4, { x: 100, y: 300 }],
    ]);
    const from = { x: 100, y: 100 };
    expect(neighbour(places, from, "right")).toBe(2);
    expect(neighbour(places, from, "down")).toBe(4);
    expect(neighbour(places, from, "left")).toBeUndefined();
  });
});
