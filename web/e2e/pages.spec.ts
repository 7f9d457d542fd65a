import { violations } from "./axe.ts";
import { PAGES } from "./pages.ts";
import { expect, test } from "./stage.ts";
import { settled } from "./visit.ts";

test.beforeAll(async ({ sluice }) => {
  sluice.command("demo");
  const rejected = { id: "bad", source: "square-blitz", type: "game.start", data: { play_id: 7 } };
  await sluice.api("POST", "/v1/events", [rejected]);
});

for (const { name, path } of PAGES) {
  for (const colorScheme of ["light", "dark"] as const) {
    test(`${name}, ${colorScheme}: no finding of axe, wide and on a phone`, async ({ page, open }) => {
      await page.emulateMedia({ colorScheme });
      await open(path);
      await settled(page);
      await page.screenshot({ path: `e2e/artifacts/${name}-${colorScheme}.png`, fullPage: true });
      expect(await violations(page)).toEqual([]);

      await page.setViewportSize({ width: 360, height: 740 });
      await settled(page);
      const wider = await page.evaluate(
        () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
      );
      expect(wider, "the page scrolls sideways").toBe(0);
      await page.screenshot({ path: `e2e/artifacts/${name}-${colorScheme}-phone.png` });
      expect(await violations(page)).toEqual([]);
    });
  }

  test(`${name} speaks Korean`, async ({ page, open }) => {
    await page.addInitScript(() => localStorage.setItem("sluice.language", "ko"));
    await open(path);
    await settled(page);
    await expect(page.locator("html")).toHaveAttribute("lang", "ko");
    if (name !== "play") await expect(page.getByRole("heading", { level: 1 })).toHaveText(/[가-힣]/);
    await page.screenshot({ path: `e2e/artifacts/${name}-ko.png`, fullPage: true });
    await page.setViewportSize({ width: 360, height: 740 });
    const wider = await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    );
    expect(wider, "the page scrolls sideways").toBe(0);
  });
}

test("language and theme are chosen and remembered", async ({ page, open }) => {
  await open("/monitor");
  await page.getByLabel("Language").selectOption("ko");
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("모니터");
  await page.getByLabel("테마").selectOption("dark");
  const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  expect(await ground()).toBe("rgb(15, 18, 20)");
  await page.reload();
  await expect(page.getByRole("heading", { level: 1 })).toHaveText("모니터");
  expect(await ground()).toBe("rgb(15, 18, 20)");
  await page.getByLabel("테마").selectOption("light");
  expect(await ground()).toBe("rgb(245, 246, 247)");
});

test("a chart leads to its events", async ({ page, open }) => {
  await open("/monitor?last=7d");
  const requests = page.locator("dl > div", { has: page.getByText("Requests", { exact: true }) }).locator("dd");
  await expect(requests).toHaveText(/\d/);
  const counted = await requests.textContent();
  await page.getByRole("link", { name: /Open in Explore.*Requests by status/ }).click();
  await expect(page.getByRole("grid", { name: "Filters" })).toContainText("type is http.access");
  await expect(page.getByLabel("Time range")).toHaveValue("7d");
  await expect(page.getByRole("region", { name: "Results" })).toContainText(`${counted} events`);
});

test("a mail that was written down is read as text", async ({ page, open }) => {
  await open("/settings/outbox");
  // Tests of channels write mails too.
  const alert = page.getByRole("row", { name: /Change alert/ }).first();
  await alert.getByRole("button", { name: "Open" }).click();
  await expect(page.getByRole("dialog").locator("pre")).toContainText("SLUICE");
  await page.screenshot({ path: "e2e/artifacts/mail.png" });
  expect(await violations(page)).toEqual([]);
});
