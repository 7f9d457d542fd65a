import type { Request } from "@playwright/test";
import { PAGES, type PageName } from "./pages.ts";
import { expect, test, withoutPush } from "./stage.ts";
import { visit } from "./visit.ts";

/** What a first visit may cost: requests of any kind, and kilobytes over the network. */
const LIMITS: Record<PageName, { requests: number; kilobytes: number }> = {
  play: { requests: 12, kilobytes: 150 },
  signin: { requests: 12, kilobytes: 150 },
  monitor: { requests: 32, kilobytes: 400 },
  explore: { requests: 30, kilobytes: 470 },
  sql: { requests: 26, kilobytes: 480 },
  live: { requests: 26, kilobytes: 270 },
  keys: { requests: 28, kilobytes: 195 },
  members: { requests: 28, kilobytes: 195 },
  channels: { requests: 28, kilobytes: 195 },
  quarantine: { requests: 28, kilobytes: 195 },
  "dead-letters": { requests: 28, kilobytes: 195 },
  outbox: { requests: 28, kilobytes: 195 },
  retention: { requests: 24, kilobytes: 165 },
  "first-event": { requests: 24, kilobytes: 165 },
};
/** A call that takes longer is told. */
const QUICK_MS = 300;
/** A call that takes longer is a fault on any machine. */
const SLOW_MS = 5_000;

test.beforeAll(({ sluice }) => void sluice.command("demo"));
for (const { name, path } of PAGES) {
  test(`${name} stays within its budget`, async ({ page, open }, info) => {
    const seen = await visit(page, open, path);
    const kilobytes = Math.round(seen.bytes / 1_024);
    const tell = (type: string, description: string) => info.annotations.push({ type, description });
    tell("requests", `${seen.requests}, ${kilobytes} KB`);
    tell("paint", `first ${Math.round(seen.firstPaintMs)} ms, largest ${Math.round(seen.largestPaintMs)} ms`);
    for (const { path: call, ms } of seen.calls.filter(({ ms }) => ms > QUICK_MS))
      tell("slow", `${call} ${Math.round(ms)} ms`);

    expect(seen.requests).toBeLessThanOrEqual(LIMITS[name].requests);
    expect(kilobytes).toBeLessThanOrEqual(LIMITS[name].kilobytes);
    expect(seen.calls.filter(({ ms }) => ms > SLOW_MS)).toEqual([]);
    expect(seen.largestPaintMs).toBeGreaterThan(0);
  });
}

test("Monitor asks each thing once at first sight, and at most two at a time that count through all that is stored", async ({
  page,
  open,
}) => {
  const asked: string[] = [];
  const [counts, under] = [/\/(v1\/search|v1\/ledger|metrics)$/, new Set<Request>()];
  let most = 0;
  page.on("request", (request) => {
    const { pathname } = new URL(request.url());
    if (!counts.test(pathname)) return;
    asked.push(pathname);
    under.add(request);
    most = Math.max(most, under.size);
  });
  const over = (request: Request) => void under.delete(request);
  page.on("requestfinished", over);
  page.on("requestfailed", over);
  // As long as a search of much takes, so that they would meet.
  await page.route(counts, async (route) => {
    await new Promise((resolve) => setTimeout(resolve, 200));
    await route.continue();
  });
  await withoutPush(page);
  await visit(page, open, "/monitor?last=7d");
  expect(most).toBe(2);
  expect(asked.sort()).toEqual(["/metrics", "/v1/ledger", ...Array(5).fill("/v1/search")]);
});
