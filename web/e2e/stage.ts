import { test as base, expect, type Page } from "@playwright/test";
import { type Sluice, startSluice } from "./server.ts";

interface Fixtures {
  /** Errors that a test brings about on purpose: those that match are no fault of the page. */
  allow: RegExp | null;
  /** Opens a page of the console as somebody who gave a key. */
  open: (path: string) => Promise<void>;
}

/**
 * A browser against a real server. Whatever a test looks at, a page must not complain on its console, throw, open a dialog of the
 * browser, or ask anybody but its own server.
 */
export const test = base.extend<Fixtures, { sluice: Sluice }>({
  sluice: [
    // biome-ignore lint/correctness/noEmptyPattern: the first argument names what is needed, here nothing
    async ({}, use) => {
      const sluice = await startSluice();
      await use(sluice);
      await sluice.stop();
    },
    { scope: "worker", timeout: 60_000 },
  ],
  baseURL: async ({ sluice }, use) => use(sluice.url),
  allow: [null, { option: true }],
  context: async ({ context, sluice, allow }, use) => {
    const faults: string[] = [];
    context.on("page", (page) => watch(page, sluice.url, (fault) => allow?.test(fault) || faults.push(fault)));
    await use(context);
    expect(faults).toEqual([]);
  },
  open: async ({ page, sluice }, use) => {
    await page.addInitScript((key) => sessionStorage.setItem("sluice.key", key), sluice.adminKey);
    await use(async (path) => {
      await page.goto(path);
      await expect(page.getByRole("heading", { level: 1 })).toBeVisible();
    });
  },
});

/** A server that tells nothing by itself: pages ask every 5 s. */
export async function withoutPush(page: Page): Promise<void> {
  await page.routeWebSocket("**/v1/live", (connection) => void connection.close());
}

function watch(page: Page, origin: string, report: (fault: string) => void): void {
  page.on("console", (message) => {
    const said = `console: ${message.text()} ${message.location().url}`;
    if (said.includes("Service Worker registration blocked by Playwright")) return;
    if (message.type() === "error" || message.type() === "warning") report(said);
  });
  page.on("pageerror", (error) => report(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    report(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (url.origin !== origin && url.protocol !== "data:" && url.protocol !== "blob:")
      report(`request: ${request.url()}`);
  });
}

export { expect };
