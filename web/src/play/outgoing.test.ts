import "fake-indexeddb/auto";
import { IDBFactory } from "fake-indexeddb";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Outgoing, type OutgoingEvent, openWaiting, pauseMs, type Sent } from "./outgoing.ts";

const event = (id: string): OutgoingEvent => ({
  id,
  source: "s",
  type: "game.start",
  time: "t",
  data: { play_id: id },
});

beforeEach(() => {
  globalThis.indexedDB = new IDBFactory();
});
afterEach(() => vi.useRealTimers());

/** A queue whose sends are answered one after another, and what was sent. */
async function queue(...answers: Sent[]) {
  const sent: OutgoingEvent[] = [];
  const outgoing = new Outgoing(await openWaiting(), async (e) => {
    sent.push(e);
    return answers.shift() ?? { outcome: "stored" };
  });
  return { outgoing, sent };
}

const ids = (events: OutgoingEvent[]) => events.map((e) => e.id);

test("events are sent in order and forgotten when the server has them", async () => {
  const { outgoing, sent } = await queue();
  await outgoing.add(event("a"));
  await outgoing.add(event("b"));
  await vi.waitFor(() => expect(outgoing.state.waiting).toBe(0));
  expect(ids(sent)).toEqual(["a", "b"]);
});

test("what could not be sent waits, and is the same after a reload", async () => {
  const first = await queue({ outcome: "later", afterMs: 1e9 });
  await first.outgoing.add(event("a"));
  await vi.waitFor(() => expect(first.outgoing.state).toMatchObject({ waiting: 1, held: true }));

  const reloaded = await queue();
  await reloaded.outgoing.flush();
  expect(reloaded.sent).toEqual([event("a")]);
  expect(reloaded.outgoing.state).toMatchObject({ waiting: 0, held: false });
});

test("a request whose answer was lost is repeated as it was", async () => {
  const { outgoing, sent } = await queue({ outcome: "later", afterMs: 1e9 });
  await outgoing.add(event("a"));
  await vi.waitFor(() => expect(outgoing.state.held).toBe(true));
  await outgoing.flush();
  expect(sent).toEqual([event("a"), event("a")]);
});

test("an event that the server refuses does not hold up the next", async () => {
  const { outgoing, sent } = await queue({ outcome: "refused", reason: "no" });
  await outgoing.add(event("a"));
  await outgoing.add(event("b"));
  await vi.waitFor(() => expect(ids(sent)).toEqual(["a", "b"]));
  await vi.waitFor(() => expect(outgoing.state).toEqual({ waiting: 0, refused: "no", held: false, lost: 0 }));
});

test("what is added while others are sent is sent too", async () => {
  const { outgoing, sent } = await queue();
  await Promise.all(["a", "b", "c", "d"].map((id) => outgoing.add(event(id))));
  await vi.waitFor(() => expect(outgoing.state.waiting).toBe(0));
  expect(ids(sent).sort()).toEqual(["a", "b", "c", "d"]);
});

test("the next try comes by itself after the pause the server named", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const { outgoing, sent } = await queue({ outcome: "later", afterMs: 5_000 });
  await outgoing.add(event("a"));
  await vi.waitFor(() => expect(outgoing.state.held).toBe(true));
  vi.advanceTimersByTime(4_999);
  expect(sent).toHaveLength(1);
  vi.advanceTimersByTime(1);
  vi.useRealTimers();
  await vi.waitFor(() => expect(outgoing.state.waiting).toBe(0));
  expect(sent).toHaveLength(2);
});

test("without a database events wait in memory", async () => {
  vi.stubGlobal("indexedDB", undefined);
  const { outgoing, sent } = await queue();
  await outgoing.add(event("a"));
  await vi.waitFor(() => expect(ids(sent)).toEqual(["a"]));
  vi.unstubAllGlobals();
});

test("an event that cannot be written down is sent at once", async () => {
  const waiting = await openWaiting();
  const sent: OutgoingEvent[] = [];
  const full = { ...waiting, add: () => Promise.reject(new DOMException("full", "QuotaExceededError")) };
  const outgoing = new Outgoing(full, async (e) => {
    sent.push(e);
    return { outcome: "stored" };
  });
  await outgoing.add(event("a"));
  expect(ids(sent)).toEqual(["a"]);
});

test("an event that can neither be written down nor sent is told to be lost", async () => {
  const full = { ...(await openWaiting()), add: () => Promise.reject(new DOMException("full", "QuotaExceededError")) };
  const outgoing = new Outgoing(full, async () => ({ outcome: "later" }));
  await outgoing.add(event("a"));
  expect(outgoing.state.lost).toBe(1);
});

test("a database that fails is asked again later", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const waiting = await openWaiting();
  await waiting.add(event("a"));
  let asked = 0;
  const first = () => (asked++ === 0 ? Promise.reject(new Error("gone")) : waiting.first());
  const outgoing = new Outgoing({ ...waiting, first }, async () => ({ outcome: "stored" }));
  await outgoing.flush();
  expect(outgoing.state.held).toBe(true);
  vi.advanceTimersByTime(2_000);
  vi.useRealTimers();
  await vi.waitFor(() => expect(outgoing.state).toMatchObject({ waiting: 0, held: false }));
});

test("pauses double up to a minute", () => {
  expect([1, 2, 3, 6, 60].map(pauseMs)).toEqual([2_000, 4_000, 8_000, 60_000, 60_000]);
});
