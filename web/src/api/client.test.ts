import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { storeKey } from "../session/key.ts";
import { ApiError, call, queryText } from "./client.ts";

const fetched = vi.fn<typeof fetch>();

beforeEach(() => vi.stubGlobal("fetch", fetched));
afterEach(() => {
  vi.unstubAllGlobals();
  fetched.mockReset();
  storeKey(null);
});

const answer = (status: number, body: string, headers: Record<string, string> = {}) =>
  fetched.mockResolvedValueOnce(new Response(body, { status, headers }));

const failure = async (work: Promise<unknown>): Promise<ApiError> => {
  const error = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  if (!(error instanceof ApiError)) throw new Error(`not an ApiError: ${String(error)}`);
  return error;
};

test("a refusal is the server's own sentence and code", async () => {
  answer(429, `{"error":{"code":"busy","message":"slow down"}}`, { "retry-after": "7" });
  const error = await failure(call("GET", "/v1/status"));
  expect([error.status, error.code, error.message, error.retryAfterS]).toEqual([429, "busy", "slow down", 7]);
  expect(error.isPassing).toBe(true);
});

test("a refusal that is no JSON is told by its status", async () => {
  answer(403, "<html>denied</html>");
  const error = await failure(call("GET", "/v1/status"));
  expect([error.code, error.isPassing]).toEqual(["http_403", false]);
});

test("no answer is an error that passes", async () => {
  fetched.mockRejectedValueOnce(new TypeError("fetch failed"));
  const error = await failure(call("GET", "/v1/status"));
  expect([error.isUnreachable, error.isPassing]).toEqual([true, true]);
});

test("a page in place of an answer is an error", async () => {
  answer(200, "<!doctype html>");
  expect((await failure(call("GET", "/v1/status"))).code).toBe("not_json");
});

test("nothing is a good answer to a deletion", async () => {
  fetched.mockResolvedValueOnce(new Response(null, { status: 204 }));
  await expect(call("DELETE", "/v1/keys/k")).resolves.toBeUndefined();
});

test("a key is sent as bearer, and only where there is one", async () => {
  answer(200, "{}");
  await call("GET", "/v1/status");
  storeKey("secret");
  answer(200, "{}");
  await call("POST", "/v1/sql", { body: { sql: "x" } });
  const sent = fetched.mock.calls.map(([, init]) => init?.headers as Record<string, string>);
  expect(sent.map((headers) => headers.authorization)).toEqual([undefined, "Bearer secret"]);
  expect(sent[1]?.["content-type"]).toBe("application/json");
});

test("query values are encoded, empty ones left out", () => {
  expect(queryText({ a: "x y&z", b: undefined, c: "", d: 0, e: false })).toBe("?a=x+y%26z&d=0&e=false");
  expect(queryText({})).toBe("");
});
