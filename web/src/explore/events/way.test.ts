import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { askWay, stationsOf, type Way } from "./way.ts";

const fetched = vi.fn<typeof fetch>();
beforeEach(() => vi.stubGlobal("fetch", fetched));
afterEach(() => {
  vi.unstubAllGlobals();
  fetched.mockReset();
});

const never = new AbortController().signal;
const states = (way: Way | null, rows?: number) =>
  Object.fromEntries(stationsOf(way, rows).map(({ name, state }) => [name, state]));

const WAY: Way = {
  document: "d",
  type: "game.result",
  received_at: "2026-11-21T10:00:00Z",
  batch: { id: "b", received_at: "2026-11-21T10:00:00Z", events: 3, request_id: null },
  lake: { state: "in_flight", group: null, object: null, committed_at: null },
  search: { state: "stored", index: "i", document: "d", indexed_at: null },
  detect: { state: "off" },
  quarantine: [],
};

test("a way is asked for by document and index", async () => {
  fetched.mockResolvedValueOnce(Response.json(WAY));
  expect(await askWay("sluice-a-2026.11", "a/b", never)).toEqual(WAY);
  expect(fetched.mock.lastCall?.[0]).toBe("/v1/events/a%2Fb/way?index=sluice-a-2026.11");
});

test("a server that tells no ways is no error, one that fails is", async () => {
  fetched.mockResolvedValueOnce(new Response("", { status: 404 }));
  expect(await askWay("i", "d", never)).toBeNull();
  fetched.mockResolvedValueOnce(new Response("", { status: 500 }));
  await expect(askWay("i", "d", never)).rejects.toThrow();
});

test("stations say what the server says", () => {
  expect(states(WAY)).toEqual({
    batch: "stored",
    lake: "in_flight",
    search: "stored",
    detect: "off",
    quarantine: "clean",
  });
  const refused = { ...WAY, quarantine: [{ day: "2026-11-21", id: "q", code: "schema", at: WAY.received_at }] };
  expect(states(refused).quarantine).toBe("quarantined");
});

test("rows that were found are there, whatever else is said", () => {
  expect([states(WAY, 1).lake, states(null, 1).lake, states(null, 0).lake]).toEqual(["stored", "stored", "unknown"]);
});

test("what is not told is not known, and nothing is made up of a word that is not known", () => {
  expect(states(null)).toEqual({
    batch: "unknown",
    lake: "unknown",
    search: "stored",
    detect: "unknown",
    quarantine: "unknown",
  });
  expect(states({ ...WAY, batch: null, detect: { state: "perhaps" } })).toMatchObject({
    batch: "unknown",
    detect: "unknown",
  });
});
