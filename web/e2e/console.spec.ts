import { readFileSync } from "node:fs";
import type { Page } from "@playwright/test";
import { violations } from "./axe.ts";
import { expect, test, withoutPush } from "./stage.ts";

const MARKUP = '"><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';
const HOSTILE = {
  source: `evil ${MARKUP}`,
  subject: `=cmd|'/c calc'!A1 ${MARKUP}`,
  userid: MARKUP,
  data: {
    [`field ${MARKUP}`]: MARKUP,
    link: "javascript:window.hacked=1",
    formula: "=1+1",
    turned: "abc\u202edef",
    template: "{a|b}",
  },
};

/** Nothing of what an event says has become part of the page. */
async function expectUnhurt(page: Page): Promise<void> {
  expect(await page.evaluate(() => (window as { hacked?: number }).hacked)).toBeUndefined();
  await expect(page.locator("img, iframe, main script, a[href^='javascript']")).toHaveCount(0);
}

async function search(page: Page, text: string): Promise<void> {
  await page.getByRole("searchbox").fill(text);
  await page.getByRole("button", { name: "Search", exact: true }).click();
}

test.describe("a key", () => {
  test.use({ allow: /status of 401.*\/v1\// });
  test("signs in, a wrong one does not, and signing out ends it", async ({ page, sluice }) => {
    await page.goto("/monitor");
    await expect(page).toHaveURL(/\/signin\?next=%2Fmonitor/);
    await page.getByRole("button", { name: "Use a key instead" }).click();
    await page.getByLabel("Key", { exact: true }).fill("sk_wrong");
    await page.getByRole("button", { name: "Sign in" }).click();
    await expect(page.getByRole("alert")).toHaveText("The server does not know this key.");
    await page.getByLabel("Key", { exact: true }).fill(sluice.adminKey);
    await page.getByRole("button", { name: "Sign in" }).click();
    await expect(page.getByRole("heading", { name: "Monitor" })).toBeVisible();
    await page.getByRole("button", { name: "Sign out" }).click();
    await expect(page).toHaveURL(/\/signin/);
    expect(await page.evaluate(() => sessionStorage.getItem("sluice.key"))).toBeNull();
  });
});

test("hostile events are text wherever they are shown", async ({ page, open, sluice }) => {
  for (const type of [`evil.${"x"}`, `x ${MARKUP}`]) await sluice.api("POST", "/v1/events", [{ ...HOSTILE, type }]);
  const result = { play_id: MARKUP, total_squares: 10, clicked_count: 5, nickname: MARKUP };
  await sluice.api("POST", "/v1/events", [{ source: "square-blitz", type: "game.result", data: result }]);
  const access = { method: "GET", route: MARKUP, path: `/${MARKUP}`, status: 500, elapsed_ms: 5 };
  await sluice.api("POST", "/v1/events", [{ source: "shop", type: "http.access", data: access }]);
  await sluice.api("POST", "/v1/events", [{ source: MARKUP, type: "game.start", data: { play_id: 7, x: MARKUP } }]);

  await open("/explore");
  await expect(async () => {
    await search(page, "type:evil.x");
    await expect(page.getByRole("region", { name: "Results" })).toContainText("evil", { timeout: 500 });
  }).toPass();
  await expectUnhurt(page);
  await page.getByRole("region", { name: "Results" }).getByRole("button").first().click();
  await expect(page.getByRole("dialog")).toContainText("javascript:window.hacked=1");
  await expectUnhurt(page);
  await page.getByRole("button", { name: "Only events with this subject" }).click();
  await expect(page.getByRole("grid", { name: "Filters" })).toContainText("=cmd");
  await expectUnhurt(page);

  await open("/monitor?last=1h");
  await expect(page.getByRole("table").filter({ hasText: "onerror" }).first()).toBeVisible();
  await expectUnhurt(page);
  await open("/explore/live");
  await page.getByText("evil.x").first().click();
  await expectUnhurt(page);

  await open("/");
  await expectUnhurt(page);
  await open("/settings/quarantine");
  await page
    .getByRole("row", { name: /onerror/ })
    .first()
    .getByRole("button", { name: "Open" })
    .click();
  await expect(page.getByRole("dialog")).toContainText("onerror");
  await expectUnhurt(page);

  const sql = "SELECT source, subject, data FROM event WHERE type = 'evil.x'";
  await open(`/explore/sql?sql=${encodeURIComponent(sql)}`);
  await expect(page.getByRole("table")).toContainText("onerror");
  await expectUnhurt(page);
  const file = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download CSV" }).click();
  const csv = readFileSync(await (await file).path(), "utf8");
  expect(csv).toContain(`"'=cmd|`);
  expect(csv).not.toMatch(/(^|,|\n)"?=/);
});

test("SQL is written, run, and refused where it does more than read", async ({ page, open }) => {
  await open("/explore/sql");
  const editor = page.getByRole("textbox", { name: "SQL statement" });
  await editor.fill("SELECT 40 + 2 AS answer");
  await editor.press("Control+Enter");
  await expect(page.getByRole("cell", { name: "42" })).toBeVisible();
  await expect(page).toHaveURL(/sql=SELECT/);
  await page.evaluate(() => undefined);
});

test.describe("a refused statement", () => {
  test.use({ allow: /status of 403.*\/v1\/sql/ });
  test("says why", async ({ page, open }) => {
    await open("/explore/sql");
    const editor = page.getByRole("textbox", { name: "SQL statement" });
    await editor.fill("DROP TABLE event");
    await page.getByRole("button", { name: "Run" }).click();
    await expect(page.getByRole("alert")).toContainText("`DROP` is not allowed");
  });
});

test("a histogram's numbers are there as a table, and a facet narrows", async ({ page, open, sluice }) => {
  await sluice.api("POST", "/v1/events", [{ source: "facet-app", type: "facet.one", data: {} }]);
  await expect(async () => {
    await open("/explore?last=1h");
    await page.getByRole("button", { name: /^facet-app/ }).click({ timeout: 500 });
  }).toPass();
  await expect(page.getByRole("grid", { name: "Filters" })).toContainText("source is facet-app");
  await page.getByRole("button", { name: /As table/ }).click();
  await expect(page.getByRole("columnheader", { name: "facet.one" })).toBeVisible();
  await page.getByRole("grid", { name: "Filters" }).getByRole("button").click();
  await expect(page.getByRole("grid", { name: "Filters" })).toBeHidden();
});

test("live shows what arrives, and what arrived while it was paused", async ({ page, open, sluice }) => {
  const send = (name: string) =>
    sluice.api("POST", "/v1/events", [{ source: "tail", type: "tail.line", data: { name } }]);
  await open("/explore/live?q=type:tail.line");
  const lines = page.getByRole("list", { name: "Live" }).getByRole("listitem");
  await send("first");
  await expect(lines.first()).toContainText("first");
  await page.getByRole("button", { name: "Pause" }).click();
  await send("second");
  await expect(page.getByRole("button", { name: "Go on (1 new)" })).toBeVisible();
  await expect(lines).toHaveCount(1);
  await page.getByRole("button", { name: "Go on (1 new)" }).click();
  await expect(lines.first()).toContainText("second");
  await expect(lines).toHaveCount(2);
});

test.describe("a lost connection", () => {
  test.use({ allow: /net::ERR_FAILED/ });
  test("is told, with the time of what is shown, and is over by itself", async ({ page, open }) => {
    await withoutPush(page);
    await open("/monitor");
    await expect(page.getByText(/^Live · /)).toBeVisible();
    await page.route("**/v1/**", (route) => route.abort());
    const lost = page.getByRole("alert").filter({ hasText: "Connection lost." });
    await expect(lost).toContainText(/What you see is from \d\d:\d\d:\d\d/);
    await page.screenshot({ path: "e2e/artifacts/monitor-lost.png" });
    await page.unroute("**/v1/**");
    await expect(lost).toBeHidden();
    await expect(page.getByText(/^Live · /)).toBeVisible();
  });
});

test("a key is made, shown once, and revoked after a question", async ({ page, open }) => {
  await open("/settings/keys");
  await page.getByLabel("Name").fill("a shop's key");
  await page.getByLabel("Sources").fill("shop, shop-test");
  await page.getByRole("button", { name: "Make key" }).click();
  const secret = page.locator("main code", { hasText: /^sk_|^[A-Za-z0-9_-]{30,}$/ }).first();
  await expect(secret).toBeVisible();
  await page.screenshot({ path: "e2e/artifacts/key-made.png" });
  expect(await violations(page)).toEqual([]);
  await page.getByRole("button", { name: "Done" }).click();
  const row = page.getByRole("row", { name: /a shop's key/ });
  await expect(row).toContainText("shop, shop-test");
  await row.getByRole("button", { name: "Revoke" }).click();
  const question = page.getByRole("dialog");
  await expect(question).toContainText("cannot be undone");
  await page.screenshot({ path: "e2e/artifacts/key-revoke.png" });
  expect(await violations(page)).toEqual([]);
  await page.keyboard.press("Escape");
  await expect(row).toContainText("Active");
  await row.getByRole("button", { name: "Revoke" }).click();
  await question.getByRole("button", { name: "Revoke" }).click();
  await expect(row).toContainText("Revoked");
});

test("what was refused is repaired, looked at, and sent again once", async ({ page, open, sluice }) => {
  const play = `repair-${Date.now()}`;
  const data = { play_id: play, total_squares: "fifty", clicked_count: 5 };
  await sluice.api("POST", "/v1/events", [{ id: play, source: "square-blitz", type: "game.result", data }]);
  await open("/settings/quarantine");
  await expect(async () => {
    await page.reload();
    await page
      .getByRole("row", { name: new RegExp(play) })
      .getByRole("button", { name: "Open" })
      .click({ timeout: 1_000 });
  }).toPass();
  const record = page.getByRole("dialog");
  await expect(record.getByText("Sent again as it is: it is refused.")).toBeVisible();
  await expect(record.getByRole("button", { name: "Send again" })).toBeDisabled();
  const text = record.getByLabel("Repair");
  await text.fill((await text.inputValue()).replace('"fifty"', "50"));
  await record.getByRole("button", { name: "Preview" }).click();
  await expect(record.getByText("With this repair: it is accepted.")).toBeVisible();
  await page.screenshot({ path: "e2e/artifacts/quarantine-repair.png" });
  expect(await violations(page)).toEqual([]);
  await record.getByRole("button", { name: "Send again" }).click();
  await page.getByRole("dialog", { name: "Send this again?" }).getByRole("button", { name: "Send again" }).click();
  await expect(record.locator("dl").getByText("Sent again")).toBeVisible();
  await expect
    .poll(async () => {
      const sql = `SELECT total_squares FROM game_result WHERE play_id = '${play}'`;
      return (await sluice.api<{ rows: number[][] }>("POST", "/v1/sql", { sql })).rows;
    })
    .toEqual([[50]]);
});

test("the first event turns the page green", async ({ page, open }) => {
  await open("/settings/first-event");
  await page.getByLabel("Source: what is it that sends?").fill("my-first-app");
  await page.getByRole("button", { name: "Make key" }).click();
  await expect(page.getByText("Waiting for the first event…")).toBeVisible();
  const script = await page.locator("pre", { hasText: "await fetch" }).textContent();
  await page.evaluate(`(async () => { ${script} })()`);
  await expect(page.getByText("It is here")).toBeVisible();
  await page.screenshot({ path: "e2e/artifacts/first-event-arrived.png", fullPage: true });
  expect(await violations(page)).toEqual([]);
  await expect(page.getByRole("region", { name: /^(curl|In a page)/ })).toHaveCount(4);
  const part = await page.locator("pre", { hasText: "sdk/sluice.js" }).textContent();
  const module = (part ?? "").replace(/<.*?>/g, "").replace(/import (.*) from (.*);/, "const $1 = await import($2);");
  const asked = page.waitForResponse((response) => response.url().includes("/v1/events?key="));
  await page.evaluate(`(async () => { ${module} })()`);
  expect((await asked).status()).toBe(202);
  await page.getByRole("link", { name: "Open in Explore" }).click();
  await expect(page.getByRole("dialog")).toContainText("my-first-app");
});

test.describe("the module for pages", () => {
  test.use({ allow: /status of 503.*\/v1\/events/ });
  test("events of the module arrive once, those of a page that is left too", async ({ page, open, sluice }) => {
    const { key } = await sluice.api<{ key: string }>("POST", "/v1/keys", {
      scope: "write",
      name: "module",
      sources: ["module"],
    });
    await open("/monitor");
    let lost = 1;
    await page.route("**/v1/events?key=*", async (route) => {
      if (lost-- <= 0) return route.continue();
      // Stored, and the answer is lost.
      await route.fetch();
      await route.fulfill({ status: 503, json: {} });
    });
    await page.evaluate(
      `(async () => {
        const { Sluice } = await import("/sdk/sluice.js");
        window.sluice = new Sluice({ url: location.origin, key: ${JSON.stringify(key)}, source: "module" });
        for (let n = 0; n < 3; n += 1) window.sluice.send("module.event", { n });
        await window.sluice.flush();
        if (window.sluice.waiting !== 3) throw new Error("they should wait");
      })()`,
    );
    await expect.poll(() => page.evaluate("window.sluice.waiting")).toBe(0);
    await page.evaluate('window.sluice.send("module.event", { n: 3 })');
    await page.goto("/");
    const sql = "SELECT count(*), count(DISTINCT id) FROM event WHERE source = 'module'";
    const counted = async () => (await sluice.api<{ rows: number[][] }>("POST", "/v1/sql", { sql })).rows[0];
    await expect.poll(counted).toEqual([4, 4]);
  });
});

test("an address that says nonsense shows the usual page", async ({ page, open }) => {
  for (const path of [
    "/explore?filters=5&event=7&last=never",
    "/settings/quarantine?state=7&record=",
    "/monitor?from=x",
  ])
    await open(path);
  await expect(page.getByRole("heading", { name: "Monitor" })).toBeVisible();
  await expect(page).not.toHaveURL(/from=/);
});

test("the console goes by keyboard alone", async ({ page, open, sluice }) => {
  await sluice.api("POST", "/v1/events", [{ source: "keys", type: "keyboard.event", data: { a: 1 } }]);
  await open("/monitor");
  await page.keyboard.press("Tab");
  const skip = page.getByRole("link", { name: "Skip to the content" });
  await expect(skip).toBeFocused();
  await page.keyboard.press("Enter");
  await expect(page.locator("#content")).toBeFocused();

  await page.getByRole("link", { name: "Explore", exact: true }).focus();
  await page.keyboard.press("Enter");
  const box = page.getByRole("searchbox");
  await box.focus();
  await expect(async () => {
    await box.fill("type:keyboard.event");
    await page.keyboard.press("Enter");
    await expect(page.getByRole("region", { name: "Results" })).toContainText("keyboard.event", { timeout: 500 });
  }).toPass();
  const hit = page.getByRole("region", { name: "Results" }).getByRole("button").first();
  await hit.focus();
  await page.keyboard.press("Enter");
  const event = page.getByRole("dialog");
  await expect(event).toContainText("keyboard.event");
  await page.keyboard.press("Tab");
  expect(await event.evaluate((dialog) => dialog.contains(document.activeElement))).toBe(true);
  await page.keyboard.press("Escape");
  await expect(event).toBeHidden();
  await expect(hit).toBeFocused();

  await page.getByRole("button", { name: "Add filter" }).focus();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  const field = page.getByRole("combobox", { name: "Field" });
  await expect(field).toBeFocused();
  await field.fill("data.sta");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await expect(field).toHaveValue("data.status");
});
