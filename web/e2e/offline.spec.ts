import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "./stage.ts";

test.use({ serviceWorkers: "allow", allow: /net::ERR_INTERNET_DISCONNECTED/ });

test("the game opens and is played without a network, and its events are sent once", async ({
  page,
  context,
  sluice,
}) => {
  await page.clock.install();
  await page.goto(`/?key=${sluice.gameKey}`);
  await expect(page.getByRole("button", { name: "Start" })).toBeVisible();
  await page.evaluate(async () => void (await navigator.serviceWorker.ready));

  await context.setOffline(true);
  await page.goto(`/?seed=7&key=${sluice.gameKey}`);
  await page.getByLabel("Nickname").fill("no network");
  await page.getByRole("button", { name: "Start" }).click();
  const again = page.getByRole("button", { name: "Play again" });
  // The clock of the page runs faster than ours.
  await expect(async () => {
    await page.clock.runFor(5_000);
    await expect(again).toBeVisible({ timeout: 50 });
  }).toPass();
  await expect(page.getByText("2 messages of your plays could not be sent yet")).toBeVisible();
  await page.screenshot({ path: "e2e/artifacts/play-offline.png" });

  // Still there after another look without a network.
  await page.reload();
  await expect(page.getByText("2 messages of your plays could not be sent yet")).toBeVisible();

  const kept = await page.evaluate(async () => {
    const names = await caches.keys();
    const keys = await Promise.all(names.map(async (name) => (await caches.open(name)).keys()));
    return { names: names.length, paths: keys.flat().map(({ url }) => new URL(url).pathname) };
  });
  expect(kept.names).toBe(1);
  expect(kept.paths.filter((path) => !/^\/(assets\/.*|theme\.js|icon\.svg)?$/.test(path))).toEqual([]);

  const sent: { type: string; data: { play_id: string } }[] = [];
  page.on("request", (request) => {
    if (request.url().endsWith("/v1/events")) sent.push(request.postDataJSON());
  });
  await context.setOffline(false);
  await page.evaluate(() => window.dispatchEvent(new Event("online")));
  await expect(page.getByText("could not be sent yet")).toBeHidden();
  expect(sent.map(({ type }) => type)).toEqual(["game.start", "game.result"]);
  const play = sent[0]?.data.play_id;
  const rows = async (table: string) => {
    const sql = `SELECT count(*) FROM ${table} WHERE play_id = '${play}'`;
    return (await sluice.api<{ rows: number[][] }>("POST", "/v1/sql", { sql })).rows[0]?.[0];
  };
  await expect.poll(() => rows("game_start")).toBe(1);
  await expect.poll(() => rows("game_result")).toBe(1);
});

test("only the game's page has a worker", async ({ page, open }) => {
  await open("/monitor");
  expect(await page.evaluate(async () => (await navigator.serviceWorker.getRegistrations()).length)).toBe(0);
});

test.describe("a new build", () => {
  // What the browser asks for a worker, no test can answer in its place: another server does.
  test.use({ allow: /request: http:\/\/127.0.0.1/ });
  test("replaces the worker and what it kept", async ({ page, sluice }) => {
    let build = "one";
    const server = createServer(async (request, response) => {
      const answer = await fetch(sluice.url + (request.url ?? "/"), {
        headers: { accept: request.headers.accept ?? "" },
      });
      const body = Buffer.from(await answer.arrayBuffer());
      const isWorker = request.url === "/sw.js";
      response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "text/plain" });
      response.end(isWorker ? body.toString().replace(/sluice-play-[0-9a-f]+/, `sluice-play-${build}`) : body);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const kept = () => page.evaluate(() => caches.keys());
    await page.goto(url);
    await page.evaluate(async () => void (await navigator.serviceWorker.ready));
    await expect.poll(kept).toEqual(["sluice-play-one"]);
    build = "two";
    await page.reload();
    await expect.poll(kept).toEqual(["sluice-play-two"]);
    await expect(page.getByRole("button", { name: "Start" })).toBeVisible();
    server.closeAllConnections();
    server.close();
  });
});
