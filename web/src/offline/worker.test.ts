import { readFileSync } from "node:fs";
import { beforeEach, expect, test, vi } from "vitest";
import { workerText } from "./plugin.ts";

const TEMPLATE = readFileSync(new URL("worker.js", import.meta.url), "utf8");
const FILES = ["/", "/assets/a-1.js", "/theme.js"];
const ORIGIN = "https://sluice.example";

interface FetchEvent {
  request: { method: string; url: string };
  respondWith: (answer: Promise<string>) => void;
}

/** A worker in a world with a network that may be away. */
class World {
  caches = new Map<string, Map<string, string>>();
  network: (url: string) => Promise<string> = async (url) => `network ${url}`;
  claimed = false;
  private listeners = new Map<string, (event: unknown) => void>();

  constructor(version: string, files = FILES) {
    this.run(version, files);
  }

  run(version: string, files = FILES): void {
    const storage = {
      open: async (name: string) => {
        const cache = this.caches.get(name) ?? new Map<string, string>();
        this.caches.set(name, cache);
        return {
          addAll: async (requests: { url: string; init: RequestInit }[]) => {
            for (const { url, init } of requests) {
              expect(init).toEqual({ cache: "reload", headers: { accept: "text/html, */*" } });
              cache.set(url, await this.network(url));
            }
          },
          match: async (path: string) => cache.get(path),
        };
      },
      keys: async () => [...this.caches.keys()],
      delete: async (name: string) => this.caches.delete(name),
    };
    const scope = {
      addEventListener: (name: string, listener: (event: unknown) => void) => this.listeners.set(name, listener),
      skipWaiting: () => undefined,
      clients: {
        claim: async () => {
          this.claimed = true;
        },
      },
      location: { origin: ORIGIN },
    };
    class Request {
      constructor(
        readonly url: string,
        readonly init: RequestInit,
      ) {}
    }
    const fetch = (request: { url: string }) => this.network(new URL(request.url).pathname);
    new Function("self", "caches", "Request", "fetch", workerText(TEMPLATE, version, files))(
      scope,
      storage,
      Request,
      fetch,
    );
  }

  async event(name: "install" | "activate"): Promise<void> {
    let work: Promise<unknown> = Promise.resolve();
    this.listeners.get(name)?.({ waitUntil: (promise: Promise<unknown>) => (work = promise) });
    await work;
  }

  /** What the worker answers; `passed` where it leaves the request alone. */
  async ask(path: string, method = "GET"): Promise<string> {
    let answer: Promise<string> = Promise.resolve("passed");
    const event: FetchEvent = {
      request: { method, url: new URL(path, ORIGIN).href },
      respondWith: (promise) => {
        answer = promise;
      },
    };
    this.listeners.get("fetch")?.(event);
    return answer;
  }
}

let world: World;
const away = () => Promise.reject(new TypeError("away"));

beforeEach(async () => {
  world = new World("v1");
  await world.event("install");
  await world.event("activate");
});

test("the page's files are there without a network, whatever stands behind the question mark", async () => {
  world.network = away;
  expect(await world.ask("/")).toBe("network /");
  expect(await world.ask("/?seed=7&key=k")).toBe("network /");
  expect(await world.ask("/theme.js")).toBe("network /theme.js");
  expect(await world.ask("/assets/a-1.js")).toBe("network /assets/a-1.js");
});

test("with a network the page is the newest, and files that never change are not asked for", async () => {
  world.network = async (url) => `newer ${url}`;
  expect(await world.ask("/")).toBe("newer /");
  expect(await world.ask("/assets/a-1.js")).toBe("network /assets/a-1.js");
});

test("a network that says nothing is not waited for", async () => {
  vi.useFakeTimers();
  world.network = () => new Promise(() => undefined);
  const asked = world.ask("/");
  await vi.advanceTimersByTimeAsync(4_000);
  expect(await asked).toBe("network /");
  vi.useRealTimers();
});

test.each(["/v1/game/ranking", "/v1/events", "/monitor", "/assets/other.js", "https://elsewhere.example/", "/sw.js"])(
  "%s is left alone",
  async (path) => {
    expect(await world.ask(path)).toBe("passed");
  },
);

test("so is whatever is sent", async () => {
  expect(await world.ask("/", "POST")).toBe("passed");
});

test("nothing is kept but the list, however much is asked", async () => {
  for (const path of ["/", "/theme.js", "/v1/game/config", "/?a=1"]) await world.ask(path);
  expect([...world.caches].map(([name, cache]) => [name, [...cache.keys()]])).toEqual([["sluice-play-v1", FILES]]);
});

test("a new build takes over, and what the old one kept is gone", async () => {
  world.run("v2", ["/", "/assets/a-2.js"]);
  await world.event("install");
  expect([...world.caches.keys()]).toEqual(["sluice-play-v1", "sluice-play-v2"]);
  await world.event("activate");
  expect([...world.caches.keys()]).toEqual(["sluice-play-v2"]);
  expect(world.claimed).toBe(true);
});

test("a place that is not filled stops the build", () => {
  expect(() => workerText("const NAME = '__NAME__'", "v", [])).toThrow("not filled");
});
