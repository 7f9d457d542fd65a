import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { concerns, Push, pauseMs, type Socket, type Topic, topicsIn } from "./push.ts";

class FakeSocket implements Socket {
  onopen: Socket["onopen"] = null;
  onmessage: Socket["onmessage"] = null;
  onclose: Socket["onclose"] = null;
  sent: string[] = [];
  isClosed = false;
  send = (text: string) => void this.sent.push(text);
  close = () => {
    this.isClosed = true;
  };
  say = (topics: string[]) => this.onmessage?.({ data: JSON.stringify({ topics }) });
}

let sockets: FakeSocket[];
let told: Topic[][];
let key: string | null;
let push: Push;
const last = () => sockets.at(-1) as FakeSocket;

beforeEach(() => {
  vi.useFakeTimers();
  sockets = [];
  told = [];
  key = null;
  push = new Push({
    connect: () => {
      const socket = new FakeSocket();
      sockets.push(socket);
      return socket;
    },
    key: () => key,
    random: () => 1,
  });
});
afterEach(() => {
  push.stop();
  vi.useRealTimers();
});
const start = () => push.start((topics) => told.push([...topics].sort()));

test("topics are told, heartbeats and nonsense are not", () => {
  start();
  expect(push.state).toBe("connecting");
  last().onopen?.();
  expect(push.state).toBe("open");
  last().say([]);
  last().say(["weather"]);
  last().onmessage?.({ data: "{" });
  expect(told).toEqual([]);
  last().say(["events", "queues", "weather"]);
  expect(told).toEqual([["events", "queues"]]);
});

test("what comes within two seconds is told together", () => {
  start();
  last().onopen?.();
  last().say(["events"]);
  last().say(["events"]);
  last().say(["ledger"]);
  expect(told).toEqual([["events"]]);
  vi.advanceTimersByTime(2_000);
  expect(told).toEqual([["events"], ["events", "ledger"]]);
  vi.advanceTimersByTime(10_000);
  expect(told).toHaveLength(2);
});

test("a tab with a key says it first, a session by a cookie says nothing", () => {
  start();
  last().onopen?.();
  expect(last().sent).toEqual([]);
  key = "sk_1";
  start();
  last().onopen?.();
  expect(last().sent).toEqual(['{"key":"sk_1"}']);
});

describe("a connection that is lost", () => {
  test("is told, tried again with growing pauses, and all is asked anew when it is back", () => {
    start();
    last().onopen?.();
    last().onclose?.();
    expect(push.state).toBe("lost");
    vi.advanceTimersByTime(999);
    expect(sockets).toHaveLength(1);
    vi.advanceTimersByTime(1);
    expect(sockets).toHaveLength(2);
    last().onclose?.();
    vi.advanceTimersByTime(1_999);
    expect(sockets).toHaveLength(2);
    vi.advanceTimersByTime(1);
    expect(push.state).toBe("lost");
    last().onopen?.();
    expect(push.state).toBe("open");
    expect(told).toEqual([["events", "incidents", "ledger", "metrics", "queues"]]);
  });

  test("that was heard again begins with a short pause", () => {
    start();
    last().onopen?.();
    last().onclose?.();
    vi.advanceTimersByTime(1_000);
    last().onopen?.();
    last().say([]);
    last().onclose?.();
    vi.advanceTimersByTime(1_000);
    expect(sockets).toHaveLength(3);
  });

  test("is noticed when nothing is heard any more", () => {
    start();
    last().onopen?.();
    vi.advanceTimersByTime(39_000);
    last().say([]);
    vi.advanceTimersByTime(39_000);
    expect(push.state).toBe("open");
    vi.advanceTimersByTime(1_000);
    expect(push.state).toBe("lost");
    expect(sockets[0]?.isClosed).toBe(true);
  });

  test("of a server that has none is seldom tried", () => {
    start();
    for (const pause of [1_000, 2_000]) {
      last().onclose?.();
      expect(push.state).toBe("connecting");
      vi.advanceTimersByTime(pause);
    }
    expect(sockets).toHaveLength(3);
    last().onclose?.();
    vi.advanceTimersByTime(599_999);
    expect(sockets).toHaveLength(3);
    vi.advanceTimersByTime(1);
    expect(sockets).toHaveLength(4);
  });

  test("cannot be refused by the browser either", () => {
    const refusing = new Push({
      connect: () => {
        throw new Error("not here");
      },
      key: () => null,
      random: () => 0,
    });
    refusing.start(() => undefined);
    expect(refusing.state).toBe("connecting");
    refusing.stop();
  });
});

test("stopped, it is closed and tells nothing more", () => {
  start();
  last().onopen?.();
  last().say(["events"]);
  last().say(["queues"]);
  const socket = last();
  push.stop();
  expect([push.state, socket.isClosed, socket.onmessage]).toEqual(["off", true, null]);
  vi.advanceTimersByTime(1_000_000);
  expect([told, sockets.length]).toEqual([[["events"]], 1]);
});

test("begun anew, it tells together again what comes within two seconds", () => {
  start();
  last().onopen?.();
  last().say(["events"]);
  vi.advanceTimersByTime(1_000);
  start();
  last().onopen?.();
  last().say(["queues"]);
  last().say(["ledger"]);
  vi.advanceTimersByTime(1_500);
  expect(told).toEqual([["events"], ["queues"]]);
  vi.advanceTimersByTime(500);
  expect(told).toEqual([["events"], ["queues"], ["ledger"]]);
});

test("whoever listens hears of every change", () => {
  const seen: string[] = [];
  push.subscribe(() => seen.push(push.state));
  start();
  last().onopen?.();
  last().onclose?.();
  push.stop();
  expect(seen).toEqual(["connecting", "open", "lost", "off"]);
});

test("pauses double up to a minute and are scattered over their upper half", () => {
  expect([1, 2, 3, 7, 20].map((failures) => pauseMs(failures, true, 1))).toEqual([1_000, 2_000, 4_000, 60_000, 60_000]);
  expect([pauseMs(2, true, 0), pauseMs(2, true, 0.5)]).toEqual([1_000, 1_500]);
});

test.each(["", "null", "[]", '{"topics":"events"}', '{"topics":[1]}', undefined])("%j names no topic", (data) =>
  expect(topicsIn(data)).toEqual([]),
);

test("a question is asked again when something that it depends on has changed", () => {
  const changed = new Set(["events", "queues"] as const);
  expect(concerns({ topics: ["ledger", "queues"] }, changed)).toBe(true);
  expect(concerns({ topics: ["ledger"] }, changed)).toBe(false);
  expect([concerns(undefined, changed), concerns({}, changed)]).toEqual([false, false]);
});
