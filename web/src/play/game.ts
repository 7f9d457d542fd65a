/**
 * Square-Blitz as arithmetic: when squares come and go, where they stand, what counts. Knows no clock, no screen and no network;
 * times are milliseconds since the first square appeared, squares are numbered from 1.
 */

/** Squares of one game. */
export const SQUARES = 50;
/** Side of a square in CSS pixels. */
export const SIDE = 40;
/** Smallest field in which squares can always be kept apart: each blocks less than 80 × 80 places for another's corner. */
export const MIN_FIELD: Field = { width: 320, height: 320 };
/** Wished distance between squares where there is room, so that a finger hits one. */
const GAP = 10;

export interface Field {
  width: number;
  height: number;
}

/** Upper left corner of a square. */
export interface Place {
  x: number;
  y: number;
}

/** From square `n` to the next: 1,878 ms falling evenly to 900 (n = 9), then 860 less 40 each, never below 400. */
export function delayAfter(n: number): number {
  if (n <= 9) return 1_878 - ((n - 1) * (1_878 - 900)) / 8;
  return Math.max(400, 860 - (n - 10) * 40);
}

/** How long square `n` stays: 7.0 s falling to 4.5 (n ≤ 10), 5.0 to 2.667 s (n ≤ 25), 2.5 s after. */
export function lifetime(n: number): number {
  if (n <= 10) return 7_000 - ((n - 1) * 2_500) / 9;
  if (n <= 25) return 5_000 - ((n - 11) * 7_000) / 42;
  return 2_500;
}

const APPEARS: readonly number[] = appearances();

function appearances(): number[] {
  const times = [0];
  for (let n = 1; n < SQUARES; n += 1) times.push((times.at(-1) ?? 0) + delayAfter(n));
  return times;
}

export function appearsAt(n: number): number {
  return APPEARS[n - 1] ?? Number.POSITIVE_INFINITY;
}

export function vanishesAt(n: number): number {
  return appearsAt(n) + lifetime(n);
}

/** Whether two squares may be on the screen at once, if nobody clicks. */
function meet(earlier: number, later: number): boolean {
  return vanishesAt(earlier) > appearsAt(later);
}

/** A game as far as it was played. */
export interface Game {
  /** When each square that was clicked was clicked, in the order of the clicks. */
  readonly clicks: ReadonlyMap<number, number>;
  /** Clicks on the background. */
  readonly missed: number;
}

export const NEW_GAME: Game = { clicks: new Map(), missed: 0 };

/** The squares to be seen at `t`, oldest first. */
export function visibleAt(game: Game, t: number): number[] {
  const seen: number[] = [];
  for (let n = 1; n <= SQUARES && appearsAt(n) <= t; n += 1) {
    if (t < vanishesAt(n) && !game.clicks.has(n)) seen.push(n);
  }
  return seen;
}

/** A click on square `n`: counts once, and only while the square is there. */
export function click(game: Game, n: number, t: number): Game {
  if (!visibleAt(game, t).includes(n)) return game;
  return { ...game, clicks: new Map(game.clicks).set(n, t) };
}

/** A click on the background. */
export function miss(game: Game): Game {
  return { ...game, missed: game.missed + 1 };
}

/** How many squares have appeared by `t`. */
export function shownBy(t: number): number {
  let n = 0;
  while (n < SQUARES && appearsAt(n + 1) <= t) n += 1;
  return n;
}

/** Over when the last square has come and none is left. */
export function isOver(game: Game, t: number): boolean {
  return t >= appearsAt(SQUARES) && visibleAt(game, t).length === 0;
}

/** When the screen changes next by itself; none when the game is over. */
export function nextChangeAt(game: Game, t: number): number | undefined {
  const coming = shownBy(t) < SQUARES ? [appearsAt(shownBy(t) + 1)] : [];
  const going = visibleAt(game, t).map(vanishesAt);
  const next = Math.min(...coming, ...going);
  return Number.isFinite(next) ? next : undefined;
}

export interface Result {
  total_squares: number;
  clicked_count: number;
  /** 0–100. */
  success_rate: number;
  /** From appearance to click, in the order of the clicks. */
  reaction_ms: number[];
  missed_clicks: number;
  duration_ms: number;
}

/** The result of a game that ended at `t`. */
export function resultOf(game: Game, t: number): Result {
  const clicked = game.clicks.size;
  return {
    total_squares: SQUARES,
    clicked_count: clicked,
    success_rate: (clicked / SQUARES) * 100,
    reaction_ms: [...game.clicks].map(([n, at]) => Math.round(at - appearsAt(n))),
    missed_clicks: game.missed,
    duration_ms: Math.round(t),
  };
}

/**
 * A place for each square, square 1 first: inside the field, and apart from all that may be there at the same time. The same seed and
 * field give the same places, so a window whose size changes in a game lays all of it out anew.
 */
export function layout(seed: number, field: Field): Place[] {
  if (field.width < MIN_FIELD.width || field.height < MIN_FIELD.height) {
    throw new RangeError(`a field of ${field.width} × ${field.height} is too small`);
  }
  const random = generator(seed);
  const places: Place[] = [];
  for (let n = 1; n <= SQUARES; n += 1) {
    const others = places.filter((_, i) => meet(i + 1, n));
    places.push(freePlace(random, field, others));
  }
  return places;
}

function freePlace(random: () => number, field: Field, others: readonly Place[]): Place {
  const room = { width: Math.floor(field.width - SIDE), height: Math.floor(field.height - SIDE) };
  for (let tries = 0; tries < 100; tries += 1) {
    const place = { x: Math.floor(random() * (room.width + 1)), y: Math.floor(random() * (room.height + 1)) };
    if (others.every((other) => areApart(place, other, GAP))) return place;
  }
  // Bad luck: the first free place from a random start on.
  const columns = room.width + 1;
  const total = columns * (room.height + 1);
  const start = Math.floor(random() * total);
  for (let i = 0; i < total; i += 1) {
    const at = (start + i) % total;
    const place = { x: at % columns, y: Math.floor(at / columns) };
    if (others.every((other) => areApart(place, other, 0))) return place;
  }
  throw new RangeError("no place is free");
}

/** Whether two squares do not overlap, with at least `gap` between them. */
export function areApart(a: Place, b: Place, gap: number): boolean {
  return Math.abs(a.x - b.x) >= SIDE + gap || Math.abs(a.y - b.y) >= SIDE + gap;
}

/** mulberry32 (public domain): 32 bits of state are plenty for places on a screen. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/**
 * The key that picks each square: the lowest of 1–9 and 0 that no square still has, whether or not it was clicked. So a digit never changes
 * while a player looks at it.
 */
const DIGITS: readonly string[] = assignDigits();

export function digitOf(n: number): string {
  return DIGITS[n - 1] ?? "";
}

function assignDigits(): string[] {
  const given: string[] = [];
  for (let n = 1; n <= SQUARES; n += 1) {
    const taken = new Set(given.filter((_, i) => meet(i + 1, n)));
    given.push([..."1234567890"].find((digit) => !taken.has(digit)) ?? "");
  }
  return given;
}

export type Direction = "left" | "right" | "up" | "down";

/** The square that an arrow key leads to: the nearest in a quarter turn around its direction, from the centre of `from`. */
export function neighbour(places: ReadonlyMap<number, Place>, from: Place, direction: Direction): number | undefined {
  const [dx, dy] = { left: [-1, 0], right: [1, 0], up: [0, -1], down: [0, 1] }[direction] as [number, number];
  let best: { n: number; distance: number } | undefined;
  for (const [n, place] of places) {
    const along = (place.x - from.x) * dx + (place.y - from.y) * dy;
    const aside = Math.abs((place.x - from.x) * dy) + Math.abs((place.y - from.y) * dx);
    if (along <= 0 || aside > along) continue;
    const distance = Math.hypot(along, aside);
    if (best === undefined || distance < best.distance) best = { n, distance };
  }
  return best?.n;
}
