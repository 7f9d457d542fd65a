import { expect, type Page } from "@playwright/test";

/** What it took a browser to show a page, with nothing kept from before. Times in milliseconds. */
export interface Visit {
  requests: number;
  /** Bytes over the network, heads included. */
  bytes: number;
  firstPaintMs: number;
  /** When the largest text or picture stood there; charts are drawings and do not count. */
  largestPaintMs: number;
  /** The calls of the API, the slowest first. */
  calls: { path: string; ms: number }[];
}

/** The page is there when nothing is being loaded any more. */
export async function settled(page: Page): Promise<void> {
  await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
  await expect(page.getByText(/^(Loading…|불러오는 중…)$/)).toHaveCount(0);
  await page.evaluate(() => document.fonts.ready);
}

export async function visit(page: Page, open: (path: string) => Promise<void>, path: string): Promise<Visit> {
  await open(path);
  await settled(page);
  await page.waitForLoadState("networkidle");
  return page.evaluate(async () => {
    const resources = performance.getEntriesByType("resource") as PerformanceResourceTiming[];
    const pages = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
    const all = [...pages, ...resources];
    const largest = await new Promise<number>((resolve) => {
      const observer = new PerformanceObserver((list) => resolve(list.getEntries().at(-1)?.startTime ?? 0));
      observer.observe({ type: "largest-contentful-paint", buffered: true });
    });
    const calls = resources
      .map(({ name, duration }) => ({ path: new URL(name).pathname, ms: duration }))
      .filter(({ path }) => path.startsWith("/v1/") || path === "/metrics");
    return {
      requests: all.length,
      bytes: all.reduce((sum, { transferSize }) => sum + transferSize, 0),
      firstPaintMs: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? 0,
      largestPaintMs: largest,
      calls: calls.sort((a, b) => b.ms - a.ms),
    };
  });
}
