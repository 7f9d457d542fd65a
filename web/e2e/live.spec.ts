import type { WebSocketRoute } from "@playwright/test";
import { answer, INCIDENTS } from "./answers.ts";
import { violations } from "./axe.ts";
import { expect, test, withoutPush } from "./stage.ts";

test("what the server tells is shown at once, and a lost connection is told and made again", async ({ page, open }) => {
  const connections: WebSocketRoute[] = [];
  const said: string[] = [];
  await page.routeWebSocket("**/v1/live", (connection) => {
    connections.push(connection);
    connection.onMessage((message) => void said.push(String(message)));
  });
  let incidents = INCIDENTS.slice(2);
  await answer(page, { "GET /v1/incidents": () => ({ body: { incidents } }) });
  await open("/monitor");
  await expect(page.getByText("as it happens")).toBeVisible();
  expect(said).toEqual([expect.stringContaining('{"key":')]);
  await page.screenshot({ path: "e2e/artifacts/monitor-pushed.png" });

  await expect(page.getByRole("region", { name: "Incidents" }).getByRole("row")).toHaveCount(2);
  incidents = INCIDENTS;
  connections[0]?.send('{"topics":["incidents"]}');
  // Sooner than it would be asked by itself.
  await expect(page.getByRole("alert", { name: "Incidents" })).toBeVisible({ timeout: 3_000 });

  await connections[0]?.close();
  await expect(page.getByText("connection lost, asked every 5 s")).toBeVisible();
  await page.screenshot({ path: "e2e/artifacts/monitor-push-lost.png" });
  expect(await violations(page)).toEqual([]);
  await expect(page.getByText("as it happens")).toBeVisible();
  expect(connections).toHaveLength(2);
});

test("a page that nobody looks at has no connection", async ({ page, open }) => {
  let open_connections = 0;
  await page.routeWebSocket("**/v1/live", (connection) => {
    open_connections += 1;
    connection.onClose(() => {
      open_connections -= 1;
    });
  });
  await open("/monitor");
  await expect.poll(() => open_connections).toBe(1);
  const hide = (hidden: boolean) =>
    page.evaluate((value) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => value });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  await hide(true);
  await expect.poll(() => open_connections).toBe(0);
  const asked = page.waitForRequest("**/v1/status", { timeout: 3_000 });
  await hide(false);
  await expect.poll(() => open_connections).toBe(1);
  await asked;
});

test("a server without such a connection is asked every few seconds", async ({ page, open }) => {
  await withoutPush(page);
  await open("/monitor");
  await expect(page.getByText(/^Live · /)).toBeVisible();
  let asked = 0;
  page.on("request", (request) => {
    if (new URL(request.url()).pathname === "/v1/status") asked += 1;
  });
  await expect.poll(() => asked, { timeout: 12_000 }).toBeGreaterThanOrEqual(2);
});
