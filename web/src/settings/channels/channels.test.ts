import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createChannel, deleteChannel, listChannels, setOperator, testChannel } from "./channels.ts";

const fetched = vi.fn<typeof fetch>();
beforeEach(() => vi.stubGlobal("fetch", fetched));
afterEach(() => {
  vi.unstubAllGlobals();
  fetched.mockReset();
});

const answer = (status: number, body?: unknown) =>
  fetched.mockResolvedValueOnce(new Response(body === undefined ? null : JSON.stringify(body), { status }));

/** Method, path and body of the last call. */
const asked = () => {
  const [path, init] = fetched.mock.lastCall ?? [];
  return [init?.method, path, init?.body === undefined ? undefined : JSON.parse(String(init.body))];
};

test("channels are listed", async () => {
  answer(200, { channels: [{ id: "c1" }] });
  expect(await listChannels(new AbortController().signal)).toEqual([{ id: "c1" }]);
  expect(asked()).toEqual(["GET", "/v1/channels", undefined]);
});

test("a webhook is made, and its key is in the answer", async () => {
  answer(201, { channel: { id: "c1" }, signing_key: "s" });
  const fresh = { kind: "webhook", name: "Ops", operator: true, url: "https://hooks.example.org/a" } as const;
  expect((await createChannel(fresh)).signing_key).toBe("s");
  expect(asked()).toEqual(["POST", "/v1/channels", fresh]);
});

test("only what changes is sent", async () => {
  answer(200, {});
  await setOperator("a/b", false);
  expect(asked()).toEqual(["PATCH", "/v1/channels/a%2Fb", { operator: false }]);
});

test("a channel is tested and deleted by its id", async () => {
  answer(200, { ok: false, detail: "refused" });
  expect(await testChannel("c1")).toEqual({ ok: false, detail: "refused" });
  expect(asked()).toEqual(["POST", "/v1/channels/c1/test", undefined]);
  answer(204);
  await deleteChannel("c1");
  expect(asked()).toEqual(["DELETE", "/v1/channels/c1", undefined]);
});
