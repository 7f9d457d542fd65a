import { PAGES } from "./pages.ts";
import { test } from "./stage.ts";
import { type Visit, visit } from "./visit.ts";

test.beforeAll(({ sluice }) => void sluice.command("demo"));

const TIMES = 5;

for (const { name, path } of PAGES) {
  for (let time = 1; time <= TIMES; time += 1) {
    test(`${name} ${time}`, async ({ page, open }, info) => {
      const { requests, bytes, firstPaintMs, largestPaintMs } = await visit(page, open, path);
      const seen: Omit<Visit, "calls"> & { name: string } = { name, requests, bytes, firstPaintMs, largestPaintMs };
      info.annotations.push({ type: "visit", description: JSON.stringify(seen) });
    });
  }
}
