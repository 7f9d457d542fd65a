import type { Page, Route } from "@playwright/test";
import type { Incident } from "../src/monitor/incidents.ts";
import type { Channel } from "../src/settings/channels/channels.ts";
import type { Retention } from "../src/settings/retention/retention.ts";

/** What a server answers, by method and path; a call that is not named goes to the real one. */
export type Answers = Record<string, (route: Route) => { status?: number; body?: unknown }>;

export async function answer(page: Page, answers: Answers): Promise<void> {
  await page.route("**/v1/**", async (route) => {
    const request = route.request();
    const made = answers[`${request.method()} ${new URL(request.url()).pathname}`];
    if (made === undefined) return route.fallback();
    const { status = 200, body } = made(route);
    await route.fulfill({ status, ...(body === undefined ? {} : { json: body }) });
  });
}

export const CHANNELS: Channel[] = [
  {
    id: "ch_mail",
    kind: "email",
    name: "On call",
    operator: true,
    to: ["oncall@example.org", "second@example.org"],
    created_at: "2026-11-20T08:00:00Z",
    last: { at: "2026-11-21T09:30:00Z", ok: true, error: null },
  },
  {
    id: "ch_hook",
    kind: "webhook",
    name: "Status board",
    operator: false,
    host: "hooks.example.org",
    created_at: "2026-11-20T09:00:00Z",
    last: { at: "2026-11-21T09:31:00Z", ok: false, error: "the server answered 503" },
  },
];

export const RETENTION: Retention = {
  tables: [
    { table: "event", days: null },
    { table: "game_result", days: 400 },
    { table: "http_access", days: 90 },
  ],
  state_days: 35,
  queue_days: 4,
  dead_letter_days: 14,
  quarantine_days: null,
  outbox_mails: 200,
};

export const INCIDENTS: Incident[] = [
  {
    id: "i3",
    kind: "dead_letters",
    subject: "index-queue",
    state: "firing",
    fired_at: "2026-11-21T10:00:00Z",
    resolved_at: null,
    message: "index-queue has 3 dead letters",
    value: 3,
    threshold: 0,
  },
  {
    id: "i2",
    kind: "lag",
    subject: "convert-queue",
    state: "firing",
    fired_at: "2026-11-21T09:58:00Z",
    resolved_at: null,
    message: "the oldest message of convert-queue is late",
    value: 412.5,
    threshold: 300,
  },
  {
    id: "i1",
    kind: "disk",
    subject: "data",
    state: "resolved",
    fired_at: "2026-11-20T02:00:00Z",
    resolved_at: "2026-11-20T02:12:00Z",
    message: "the disk is almost full",
    value: null,
    threshold: null,
  },
];

/** Channels, retention and incidents with something in each. */
export const NEW_CALLS: Answers = {
  "GET /v1/channels": () => ({ body: { channels: CHANNELS } }),
  "GET /v1/retention": () => ({ body: RETENTION }),
  "GET /v1/incidents": () => ({ body: { incidents: INCIDENTS } }),
};
