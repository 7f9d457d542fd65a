import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Options, Sluice } from "./sluice.ts";

interface Sent {
  url: string;
  keepalive: boolean | undefined;
  events: { id: string; type: string; data: unknown; [attribute: string]: unknown }[];
}

let sent: Sent[];
let answers: (() => Promise<Response>)[];
let leave: () => void;

const accepted = async () => Response.json({ rejected: 0, unavailable: 0 }, { status: 202 });
const status = (code: number, body: unknown = {}, headers = {}) => {
  answers.push(async () => Response.json(body, { status: code, headers }));
};

beforeEach(() => {
  vi.useFakeTimers();
  vi.spyOn(Math, "random").mockReturnValue(1);
  sent = [];
  answers = [];
  vi.stubGlobal("addEventListener", (name: string, listener: () => void) => {
    if (name === "pagehide") leave = listener;
  });
  vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
    sent.push({ url, keepalive: init.keepalive, events: JSON.parse(String(init.body)) });
    return (answers.shift() ?? accepted)();
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

const make = (more: Partial<Options> = {}) =>
  new Sluice({ url: "https://sluice.example/", key: "sk a", source: "shop", ...more });
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);
const ids = () => sent.map(({ events }) => events.map((event) => event.id));

test("events of a second go together, with what the server wants to know", async () => {
  const sluice = make();
  const first = sluice.send("a.b", { n: 1 }, { subject: "s", userid: "u" });
  sluice.send("a.c");
  await pass(999);
  expect(sent).toEqual([]);
  await pass(1);
  expect(sent).toHaveLength(1);
  expect(sent[0]?.url).toBe("https://sluice.example/v1/events?key=sk%20a");
  const [one, two] = sent[0]?.events ?? [];
  expect(one).toMatchObject({ id: first, source: "shop", type: "a.b", data: { n: 1 }, subject: "s", userid: "u" });
  expect(one?.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect([two?.data, two?.sessionid]).toEqual([{}, one?.sessionid]);
  expect(one?.id).not.toBe(two?.id);
  expect(sluice.waiting).toBe(0);
});

test("a batch has its bounds", async () => {
  const sluice = make();
  for (let i = 0; i < 150; i += 1) sluice.send("a", i);
  sluice.send("b", "x".repeat(30_000));
  await sluice.flush();
  expect(sent.map(({ events }) => events.length).reduce((a, b) => a + b)).toBe(151);
  for (const { events, keepalive } of sent.slice(0, -1)) {
    expect(JSON.stringify(events).length).toBeLessThan(10_200);
    expect(keepalive).toBe(true);
  }
  expect(sent.at(-1)?.keepalive, "more than a page may leave behind").toBe(false);
});

describe("what is not taken now", () => {
  test.each([408, 429, 500, 503])("is sent again unchanged after %i, with growing pauses", async (code) => {
    status(code);
    status(code);
    const sluice = make();
    sluice.send("a");
    await pass(1_000);
    sluice.send("later");
    await pass(999);
    expect(sent).toHaveLength(1);
    await pass(1);
    expect(sent).toHaveLength(2);
    await pass(2_000);
    expect(ids().slice(0, 3)).toEqual([ids()[0], ids()[0], ids()[0]]);
    expect(sent.at(-1)?.events[0]?.type).toBe("later");
    expect([sent.length, sluice.waiting]).toEqual([4, 0]);
  });

  test("waits as long as the server says", async () => {
    status(503, {}, { "retry-after": "7" });
    make().send("a");
    await pass(7_999);
    expect(sent).toHaveLength(1);
    await pass(1);
    expect(sent).toHaveLength(2);
  });

  test("without a network", async () => {
    answers.push(() => Promise.reject(new TypeError("away")));
    const sluice = make();
    sluice.send("a");
    await pass(1_000);
    expect(sluice.waiting).toBe(1);
    await pass(1_000);
    expect([ids()[1], sluice.waiting]).toEqual([ids()[0], 0]);
  });

  test("in part, is sent again as a whole, and stored once by its ids", async () => {
    status(202, { accepted: 1, rejected: 0, unavailable: 1 });
    const sluice = make();
    sluice.send("a");
    sluice.send("b");
    await pass(2_000);
    expect(ids()[1]).toEqual(ids()[0]);
    expect(sluice.waiting).toBe(0);
  });

  test("does not wait longer for what came before and was taken", async () => {
    status(503);
    status(503);
    const sluice = make();
    sluice.send("a");
    await pass(4_000);
    expect([sent.length, sluice.waiting]).toEqual([3, 0]);
    status(503);
    sluice.send("b");
    await pass(2_000);
    expect([sent.length, sluice.waiting]).toEqual([5, 0]);
  });

  test("is bounded", () => {
    const sluice = make();
    for (let i = 0; i < 1_000; i += 1) expect(sluice.send("a")).not.toBeNull();
    expect(sluice.send("a")).toBeNull();
  });
});

test("what will never be taken is told and not sent again", async () => {
  const refused: unknown[] = [];
  const sluice = make({ onRefused: (answer, events) => refused.push([answer, events]) });
  status(401, { error: { code: "unknown_key" } });
  sluice.send("a");
  sluice.send("b");
  await pass(1_000);
  status(202, { accepted: 1, rejected: 1, unavailable: 0 });
  sluice.send("c");
  sluice.send("d");
  await pass(60_000);
  expect(sent).toHaveLength(2);
  expect(refused).toEqual([
    [{ error: { code: "unknown_key" } }, 2],
    [{ accepted: 1, rejected: 1, unavailable: 0 }, 1],
  ]);
});

describe("when the page is left", () => {
  test("all that waits goes at once", async () => {
    status(503);
    const sluice = make();
    sluice.send("held back");
    await pass(1_000);
    sluice.send("fresh");
    leave();
    await pass(0);
    expect(sent.map(({ events, keepalive }) => [events[0]?.type, keepalive])).toEqual([
      ["held back", true],
      ["held back", true],
      ["fresh", true],
    ]);
    expect(sluice.waiting).toBe(0);
  });

  test("and comes back, what could not be sent is tried again", async () => {
    status(503);
    const sluice = make();
    sluice.send("a");
    leave();
    await pass(0);
    expect(sluice.waiting).toBe(1);
    await pass(1_000);
    expect([sent.length, sluice.waiting]).toEqual([2, 0]);
  });

  test("while something else is on its way, it is tried again too", async () => {
    const pending: ((response: Response) => void)[] = [];
    for (let n = 0; n < 2; n += 1) answers.push(() => new Promise((resolve) => void pending.push(resolve)));
    const sluice = make();
    sluice.send("first");
    await pass(1_000);
    sluice.send("second");
    leave();
    await pass(0);
    pending[0]?.(await accepted());
    await pass(0);
    pending[1]?.(new Response("{}", { status: 503 }));
    await pass(0);
    expect(sluice.waiting).toBe(1);
    await pass(1_000);
    expect([sent.length, sluice.waiting]).toEqual([3, 0]);
  });

  test("what is on its way already does not go twice", async () => {
    let answer: (response: Response) => void = () => undefined;
    answers.push(() => new Promise((resolve) => (answer = resolve)));
    const sluice = make();
    sluice.send("a");
    await pass(1_000);
    leave();
    await pass(0);
    expect(sent).toHaveLength(1);
    answer(await accepted());
    await pass(0);
    expect(sluice.waiting).toBe(0);
  });
});
