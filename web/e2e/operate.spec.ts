import type { Channel } from "../src/settings/channels/channels.ts";
import { answer, CHANNELS, INCIDENTS, NEW_CALLS } from "./answers.ts";
import { violations } from "./axe.ts";
import { expect, test, withoutPush } from "./stage.ts";

// What people do who run it: channels, incidents, retention, dead letters, the way of an event.
test("a webhook is made, and its signing key is shown once", async ({ page, open }) => {
  const channels = [...CHANNELS];
  let asked: unknown;
  await answer(page, {
    "GET /v1/channels": () => ({ body: { channels } }),
    "POST /v1/channels": (route) => {
      asked = route.request().postDataJSON();
      const channel: Channel = {
        id: "ch_new",
        kind: "webhook",
        name: "Pager",
        operator: true,
        host: "pager.example.org",
        created_at: "2026-11-21T10:00:00Z",
        last: null,
      };
      channels.push(channel);
      return { status: 201, body: { channel, signing_key: "whsec_example" } };
    },
  });
  await open("/settings/channels");
  await page.getByLabel("Kind").selectOption("webhook");
  await page.getByLabel("Name").fill("Pager");
  await page.getByLabel("Address", { exact: true }).fill("https://pager.example.org/hook");
  await page.getByRole("switch", { name: "Operator", exact: true }).check();
  await page.getByRole("button", { name: "Make channel" }).click();
  await expect(page.getByText("whsec_example")).toBeVisible();
  await expect(page.getByRole("button", { name: "Copy" })).toBeVisible();
  await page.screenshot({ path: "e2e/artifacts/channel-made.png" });
  expect(await violations(page)).toEqual([]);
  expect(asked).toEqual({
    kind: "webhook",
    name: "Pager",
    operator: true,
    url: "https://pager.example.org/hook",
  });
  await page.getByRole("button", { name: "Done" }).click();
  await expect(page.getByText("whsec_example")).toBeHidden();
  await expect(page.getByRole("row", { name: /Pager/ })).toContainText("pager.example.org");
  await expect(page.getByLabel("Name")).toHaveValue("");
});

test("a channel is tested, switched and deleted after a question", async ({ page, open }) => {
  let channels = CHANNELS;
  const changed: unknown[] = [];
  await answer(page, {
    "GET /v1/channels": () => ({ body: { channels } }),
    "POST /v1/channels/ch_mail/test": () => ({ body: { ok: true, detail: "a mail is in the outbox" } }),
    "POST /v1/channels/ch_hook/test": () => ({ body: { ok: false, detail: "hooks.example.org answered 503" } }),
    "PATCH /v1/channels/ch_hook": (route) => {
      changed.push(route.request().postDataJSON());
      channels = channels.map((one) => (one.id === "ch_hook" ? { ...one, operator: true } : one));
      return { body: channels[1] };
    },
    "DELETE /v1/channels/ch_hook": () => {
      channels = channels.filter((one) => one.id !== "ch_hook");
      return { status: 204 };
    },
  });
  await open("/settings/channels");
  const row = (name: string) => page.getByRole("row", { name: new RegExp(name) });
  await row("On call").getByRole("button", { name: "Test" }).click();
  await expect(page.getByText("The test was delivered. a mail is in the outbox")).toBeVisible();
  await row("Status board").getByRole("button", { name: "Test" }).click();
  await expect(page.getByText("The test was not delivered. hooks.example.org answered 503")).toBeVisible();
  await page.screenshot({ path: "e2e/artifacts/channel-tested.png" });
  expect(await violations(page)).toEqual([]);

  await row("Status board").getByRole("switch").click();
  await expect(row("Status board").getByRole("switch")).toBeChecked();
  expect(changed).toEqual([{ operator: true }]);

  await row("Status board").getByRole("button", { name: "Delete" }).click();
  await expect(page.getByRole("dialog")).toContainText("cannot be undone");
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await expect(row("Status board")).toBeHidden();
  await expect(row("On call")).toBeVisible();
});

test("a mail channel is made, tested and deleted on the real server", async ({ page, open }) => {
  await open("/settings/channels");
  await page.getByLabel("Name").fill("Real mail");
  await page.getByLabel("Addresses").fill("ops@example.org");
  await page.getByRole("button", { name: "Make channel" }).click();
  const row = page.getByRole("row", { name: /Real mail/ });
  await expect(row).toContainText("ops@example.org");
  await row.getByRole("button", { name: "Test" }).click();
  await expect(page.getByText("The test was delivered.")).toBeVisible();
  await expect(row).toContainText("Delivered");
  await row.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await expect(row).toBeHidden();
});

test("how long things are kept is told in words", async ({ page, open }) => {
  await answer(page, NEW_CALLS);
  await open("/settings/retention");
  await expect(page.getByRole("row", { name: /^Quarantine/ })).toContainText("Without end");
  await expect(page.getByRole("row", { name: /^Queues/ })).toContainText("4 days");
  await expect(page.getByRole("row", { name: /^Outbox/ })).toContainText("The newest 200");
  await expect(page.getByRole("row", { name: /^game_result/ })).toContainText("400 days");
});

test("how long things are kept is told by the real server", async ({ page, open }) => {
  await open("/settings/retention");
  await expect(page.getByRole("row", { name: /^Queues/ })).toContainText("Without end");
  await expect(page.getByRole("row", { name: /^game_result/ })).toBeVisible();
});

test("open incidents stand above everything, past ones in a list", async ({ page, open }) => {
  await withoutPush(page);
  let incidents = INCIDENTS;
  await answer(page, { "GET /v1/incidents": () => ({ body: { incidents } }) });
  await open("/monitor");
  const banner = page.getByRole("alert", { name: "Incidents" });
  await expect(banner).toContainText("2 incidents are open");
  await expect(banner.getByRole("listitem").first()).toContainText(
    "The oldest message of convert-queue had waited 6.9 min, limit 5 min",
  );
  await expect(banner.getByRole("link", { name: "Dead letters" })).toHaveAttribute("href", "/settings/dead-letters");
  const past = page.getByRole("region", { name: "Incidents" });
  await expect(past.getByRole("row", { name: /Disk/ })).toContainText("12 min");
  await page.screenshot({ path: "e2e/artifacts/incidents.png" });
  incidents = INCIDENTS.map((one) => ({ ...one, state: "resolved", resolved_at: "2026-11-21T10:30:00Z" }));
  await expect(banner).toBeHidden();
  await expect(past.getByRole("row", { name: /Dead letters/ })).toContainText("30 min");
});

test("incidents speak Korean, and what has no words of ours stands as the server says it", async ({ page, open }) => {
  await page.addInitScript(() => localStorage.setItem("sluice.language", "ko"));
  await answer(page, { "GET /v1/incidents": () => ({ body: { incidents: INCIDENTS } }) });
  await open("/monitor");
  const banner = page.getByRole("alert", { name: "장애" });
  await expect(banner.getByRole("listitem").first()).toContainText(
    "convert-queue의 가장 오래된 메시지가 6.9분 기다림, 한도 5분",
  );
  await expect(page.getByRole("row", { name: /디스크/ })).toContainText("the disk is almost full");
});

test("dead letters are looked at and brought back after a question", async ({ page, open }) => {
  const dead = {
    name: "DeadLetterQueue",
    visible: 2,
    in_flight: 0,
    events: 7,
    bytes: 900,
    oldest_ms: 5_400_000,
    dead_letter_queue: null,
    dead_letters: 0,
  };
  const empty = { ...dead, name: "IndexDeadLetterQueue", visible: 0, events: 0, oldest_ms: null };
  const index = { ...empty, name: "IndexQueue", dead_letter_queue: "DeadLetterQueue", dead_letters: 2 };
  let redriven = 0;
  const queues = () => [index, redriven > 0 ? { ...dead, visible: 0, events: 0, oldest_ms: null } : dead, empty];
  await answer(page, {
    "GET /v1/queues": () => ({ body: { queues: queues() } }),
    "GET /v1/queues/DeadLetterQueue/messages": () => ({
      body: {
        messages: [
          {
            id: "m1",
            sent: "2026-11-21T08:00:00Z",
            receive_count: 24,
            events: 7,
            bytes: 900,
            body: '{"events":"<img src=x onerror=alert(1)>\u202e"}',
          },
        ],
      },
    }),
    "POST /v1/queues/DeadLetterQueue/redrive": () => {
      redriven += 1;
      return { status: 202, body: { moved: 2 } };
    },
  });
  await open("/settings/dead-letters");
  const row = page.getByRole("row", { name: /^DeadLetterQueue/ });
  await expect(row).toContainText("1.5 hr");
  await expect(page.getByRole("row", { name: /^IndexDeadLetterQueue/ }).getByRole("button")).toHaveCount(0);
  await row.getByRole("button", { name: "Look inside" }).click();
  const letter = page.getByRole("dialog");
  await expect(letter).toContainText("24");
  await expect(letter.locator("pre")).toHaveText('{"events":"<img src=x onerror=alert(1)>\\u{202e}"}');
  await expect(letter.locator("img")).toHaveCount(0);
  await page.screenshot({ path: "e2e/artifacts/dead-letter.png" });
  expect(await violations(page)).toEqual([]);
  await page.keyboard.press("Escape");

  await row.getByRole("button", { name: "Bring back" }).click();
  const question = page.getByRole("dialog", { name: "Bring these messages back?" });
  await page.keyboard.press("Escape");
  expect(redriven).toBe(0);
  await row.getByRole("button", { name: "Bring back" }).click();
  await question.getByRole("button", { name: "Bring back" }).click();
  await expect(page.getByText("No dead letters")).toBeVisible();
  expect(redriven).toBe(1);
});

test.describe("the way of an event", () => {
  test("is told station by station, and leads to its quarantine record", async ({ page, open, sluice }) => {
    await sluice.api("POST", "/v1/events", [{ source: "way", type: "way.event", data: { n: 1 } }]);
    await page.route("**/v1/events/*/way?*", (route) =>
      route.fulfill({
        json: {
          document: "d",
          type: "way.event",
          received_at: "2026-11-21T10:00:00Z",
          batch: { id: "b-0123456789abcdef", received_at: "2026-11-21T10:00:00Z", events: 12, request_id: "req-7" },
          lake: {
            state: "stored",
            group: "way_event/2026-11-21",
            object: "lake/event/day=2026-11-21/part-0001.parquet",
            committed_at: "2026-11-21T10:00:02Z",
          },
          search: { state: "stored", index: "i", document: "d", indexed_at: "2026-11-21T10:00:01Z" },
          detect: { state: "something new" },
          quarantine: [{ day: "2026-11-21", id: "q1", code: "schema", at: "2026-11-21T10:00:00Z" }],
        },
      }),
    );
    await openEvent(page, open, "type:way.event");
    const way = page.getByRole("region", { name: "Way through the pipeline" });
    const station = (name: string) => way.getByRole("listitem").filter({ hasText: new RegExp(`^${name}`) });
    await expect(station("Batch")).toContainText("one of 12 events");
    await expect(station("Batch")).toContainText("req-7");
    await expect(station("Lake")).toContainText("part-0001.parquet");
    await expect(station("Detection")).toHaveText(/not known/);
    await page.screenshot({ path: "e2e/artifacts/way.png" });
    expect(await violations(page)).toEqual([]);
    const record = station("Quarantine").getByRole("link", { name: "schema" });
    await expect(record).toHaveAttribute("href", /\/settings\/quarantine\?record=2026-11-21%2Fq1/);
  });

  test.describe("that a server does not tell", () => {
    test.use({ allow: /status of 404.*\/v1\/events\/[^/]+\/way/ });
    test("is said to be not known", async ({ page, open, sluice }) => {
      await sluice.api("POST", "/v1/events", [{ source: "way", type: "way.unknown", data: { n: 1 } }]);
      await page.route("**/v1/events/*/way?*", (route) =>
        route.fulfill({ status: 404, json: { error: { code: "not_found", message: "no such call" } } }),
      );
      await openEvent(page, open, "type:way.unknown");
      const way = page.getByRole("region", { name: "Way through the pipeline" });
      await expect(way.getByText("not known")).toHaveCount(3);
      await expect(way.getByText("one row")).toBeVisible();
    });
  });

  test("is told by the real server", async ({ page, open, sluice }) => {
    await sluice.api("POST", "/v1/events", [{ source: "way", type: "way.real", data: { n: 1 } }]);
    await openEvent(page, open, "type:way.real");
    const way = page.getByRole("region", { name: "Way through the pipeline" });
    const station = (name: string) => way.getByRole("listitem").filter({ hasText: new RegExp(`^${name}`) });
    for (const name of ["Lake", "Search"]) await expect(station(name)).toContainText("there");
    await expect(station("Quarantine")).toContainText("nothing was refused");
  });

  test("of a refused event opens its record", async ({ page, open, sluice }) => {
    const bad = { id: "way-bad", source: "square-blitz", type: "game.start", data: { play_id: 7 } };
    await sluice.api("POST", "/v1/events", [bad]);
    let handle: string | undefined;
    await expect(async () => {
      const found = await sluice.api<{ records: { handle: string }[] }>("GET", "/v1/quarantine?code=schema&limit=1");
      handle = found.records[0]?.handle;
      expect(handle).toBeDefined();
    }).toPass();
    await open(`/settings/quarantine?record=${encodeURIComponent(handle ?? "")}`);
    await expect(page.getByRole("dialog", { name: "Quarantine record" })).toContainText("schema");
    await page.keyboard.press("Escape");
    await expect(page).toHaveURL(/\/settings\/quarantine$/);
    await page.getByLabel("State").selectOption("open");
    await expect(page).toHaveURL(/state=open/);
  });
});

async function openEvent(page: Parameters<typeof answer>[0], open: (path: string) => Promise<void>, query: string) {
  await open(`/explore?q=${encodeURIComponent(query)}`);
  await expect(async () => {
    await page.getByRole("button", { name: "Search", exact: true }).click();
    const results = page.getByRole("region", { name: "Results" });
    await results.getByRole("button").first().click({ timeout: 1_000 });
  }).toPass();
  await expect(page.getByRole("dialog")).toBeVisible();
}
