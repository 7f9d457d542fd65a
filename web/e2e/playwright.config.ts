import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: ".",
  outputDir: "artifacts/results",
  // One server for all: they look at each other's events by name, never by number.
  workers: 1,
  // A game lasts 38 seconds.
  timeout: 90_000,
  expect: { timeout: 15_000 },
  forbidOnly: true,
  reporter: [["list"]],
  use: {
    locale: "en-US",
    timezoneId: "Asia/Seoul",
    viewport: { width: 1440, height: 900 },
    // What a worker answers is not seen by `page.route`; the test of the worker lets it in.
    serviceWorkers: "block",
    trace: "retain-on-failure",
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
});
