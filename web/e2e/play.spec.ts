import { gzipSync } from "node:zlib";
import type { Page } from "@playwright/test";
import type { Sluice } from "./server.ts";
import { expect, test } from "./stage.ts";

/** What a quick person takes from seeing to pressing; the server doubts plays that are quicker. */
const REACTION_MS = 150;

/** Plays a whole game with the mouse, and looks at each square that it sees. */
async function playAll(page: Page): Promise<void> {
  const field = page.getByRole("application");
  await expect(field).toBeVisible();
  const result = page.getByRole("button", { name: "Play again" });
  const squares = page.locator("[data-square]");
  for (;;) {
    await expect(squares.first().or(result)).toBeVisible();
    if (await result.isVisible()) return;
    const seen = await squares.evaluateAll((all) =>
      all.map((square) => {
        const { x, y, width, height } = square.getBoundingClientRect();
        return { x, y, width, height };
      }),
    );
    const room = await field.boundingBox();
    if (room === null) continue;
    for (const [i, box] of seen.entries()) {
      expect([box.width, box.height]).toEqual([40, 40]);
      expect(box.x >= room.x && box.y >= room.y).toBe(true);
      expect(box.x + 40 <= room.x + room.width && box.y + 40 <= room.y + room.height).toBe(true);
      for (const other of seen.slice(0, i)) {
        expect(Math.abs(box.x - other.x) >= 40 || Math.abs(box.y - other.y) >= 40).toBe(true);
      }
    }
    await page.waitForTimeout(REACTION_MS);
    for (const box of seen) await page.mouse.click(box.x + 20, box.y + 20);
  }
}

/** Games that were finished in the last quarter of an hour, as other tests do too. */
async function finishedLately(sluice: Sluice): Promise<number> {
  const since = new Date(Date.now() - 15 * 60_000).toISOString();
  const filter = [{ term: { type: "game.result" } }, { range: { time: { gte: since } } }];
  const body = { size: 0, track_total_hits: true, query: { bool: { filter } } };
  return (await sluice.api<{ hits: { total: { value: number } } }>("POST", "/v1/search", body)).hits.total.value;
}

test("a whole game is played, and its result is on Monitor, in Explore and in SQL", async ({
  page,
  sluice,
  context,
}) => {
  const nickname = `player ${Date.now()}`;
  const before = await finishedLately(sluice);
  await page.goto(`/?key=${sluice.gameKey}`);
  await page.getByLabel("Nickname").fill(nickname);
  await page.getByRole("button", { name: "Start" }).click();
  await expect(page.getByText("3", { exact: true })).toBeVisible();

  const stored = page.waitForResponse(async (response) => {
    return response.url().endsWith("/v1/events") && (response.request().postData() ?? "").includes("game.result");
  });
  await playAll(page);
  await expect(page.getByText("Your best so far!")).toBeVisible();
  expect((await stored).status()).toBe(202);
  const storedAt = Date.now();

  const sent = JSON.parse((await stored).request().postData() ?? "{}");
  expect(sent.data).toMatchObject({ total_squares: 50, nickname });
  expect(sent.data.clicked_count).toBeGreaterThan(45);
  expect(sent.data.reaction_ms).toHaveLength(sent.data.clicked_count);
  expect(Math.min(...sent.data.reaction_ms)).toBeGreaterThanOrEqual(100);
  expect(sent.data.duration_ms).toBeGreaterThan(31_000);
  const start = await sluice.api<{ hits: { hits: { _source: { data: unknown } }[] } }>("POST", "/v1/search", {
    query: { bool: { filter: [{ term: { type: "game.start" } }, { term: { "data.play_id": sent.data.play_id } }] } },
  });
  expect(start.hits.hits).toHaveLength(1);

  const console = await context.newPage();
  await console.addInitScript((key) => sessionStorage.setItem("sluice.key", key), sluice.adminKey);
  await console.goto("/monitor?last=15m");
  const finished = console.locator("dl > div", { has: console.getByText("Games finished", { exact: true }) });
  await expect(finished.locator("dd")).toHaveText(String(before + 1));
  const seenMs = Date.now() - storedAt;
  // Where the server cannot tell it, it is asked every 5 s, and the index takes up to two.
  const isTold = await console.getByText("as it happens").isVisible();
  expect(seenMs).toBeLessThan(isTold ? 5_000 : 8_000);

  await expect(page.getByRole("row", { name: new RegExp(nickname) })).toBeVisible({ timeout: 30_000 });
  await page.screenshot({ path: "e2e/artifacts/play-result.png" });

  await console.goto("/explore");
  await console.getByRole("searchbox").fill(`"${nickname}"`);
  await console.getByRole("button", { name: "Search", exact: true }).click();
  await console.getByRole("region", { name: "Results" }).getByRole("button").first().click();
  const event = console.getByRole("dialog");
  await expect(event).toContainText(nickname);
  await expect(event.getByText("one row")).toBeVisible();

  await event.getByRole("link", { name: "game_result" }).click();
  await expect(console.getByRole("region", { name: "Results" }).first()).toContainText(nickname);
});

test("a game goes by keyboard alone", async ({ page, sluice }) => {
  await page.goto(`/?seed=7&key=${sluice.gameKey}`);
  await page.getByLabel("Nickname").focus();
  await page.keyboard.press("Enter");
  const field = page.getByRole("application");
  await expect(field).toBeFocused();

  const caught = page.getByRole("dialog").locator("strong");
  await expect(page.getByRole("button", { name: "Square 1, key 1" })).toBeVisible();
  await page.keyboard.press("1");
  await expect(caught).toHaveText("1");

  await expect(page.getByRole("button", { name: /^Square 2,/ })).toBeVisible();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  await expect(caught).toHaveText("2");

  await expect(page.getByRole("button", { name: /^Square 3,/ })).toBeVisible();
  await page.keyboard.press("Tab");
  await expect(page.getByRole("button", { name: /^Square 3,/ })).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(caught).toHaveText("3");

  await page.keyboard.press("Escape");
  await expect(page.getByRole("button", { name: "Start" })).toBeVisible();
});

test.describe("by touch", () => {
  test.use({ hasTouch: true, isMobile: true, viewport: { width: 360, height: 640 } });
  test("squares are caught, and the background counts as missed", async ({ page, sluice }) => {
    await page.goto(`/?seed=7&key=${sluice.gameKey}`);
    await page.getByRole("button", { name: "Start" }).tap();
    const first = page.getByRole("button", { name: /^Square 1,/ });
    await first.tap();
    await expect(page.getByRole("dialog").locator("strong")).toHaveText("1");
    await expect(first).toBeHidden();
    await page.screenshot({ path: "e2e/artifacts/play-phone-running.png" });
    await page.getByRole("button", { name: "Leave" }).tap();
  });
});

test.describe("without a network", () => {
  test.use({ allow: /net::ERR_FAILED/ });
  test("plays wait, survive a reload, and are stored once", async ({ page, sluice }) => {
    await page.goto(`/?key=${sluice.gameKey}`);
    await page.route("**/v1/events", (route) => route.abort());
    await page.getByRole("button", { name: "Start" }).click();
    await page.keyboard.press("Escape");
    const waiting = page.getByText("could not be sent yet");
    await expect(waiting).toBeVisible();
    const asked = page.waitForRequest("**/v1/events");
    await page.reload();
    const sent = JSON.parse((await asked).postData() ?? "{}");
    await expect(waiting).toBeVisible();

    // The server stores it and the answer is lost: it comes again and is stored once.
    await page.unroute("**/v1/events");
    await page.route("**/v1/events", async (route) => {
      await route.fetch();
      await route.abort();
      await page.unroute("**/v1/events");
    });
    await page.evaluate(() => window.dispatchEvent(new Event("online")));
    await page.waitForResponse((response) => response.url().endsWith("/v1/events") && response.status() === 202);
    await expect(waiting).toBeHidden();

    const where = `play_id = '${sent.data.play_id}'`;
    await expect
      .poll(
        async () =>
          (
            await sluice.api<{ rows: number[][] }>("POST", "/v1/sql", {
              sql: `SELECT count(*) FROM game_start WHERE ${where}`,
            })
          ).rows[0]?.[0],
      )
      .toBe(1);
    const found = await sluice.api<{ hits: { total: { value: number } } }>("POST", "/v1/search", {
      query: { term: { "data.play_id": sent.data.play_id } },
    });
    expect(found.hits.total.value).toBe(1);
  });
});

test("the game's page is small, and fetches nothing that it does not need", async ({ page, sluice }) => {
  const scripts: string[] = [];
  page.on("response", (response) => {
    if (response.request().resourceType() === "script") scripts.push(response.url());
  });
  await page.goto(`/?key=${sluice.gameKey}`);
  await expect(page.getByRole("button", { name: "Start" })).toBeVisible();
  await page.waitForLoadState("networkidle");
  let bytes = 0;
  for (const url of scripts) bytes += gzipSync(await (await page.request.get(url)).body()).length;
  expect(bytes).toBeLessThan(250 * 1024);
  expect(scripts.length).toBeLessThan(10);
});
