import { expect, test } from "vitest";
import { durationMs, type Incident, openOf } from "./incidents.ts";

const incident = (id: string, fired_at: string, resolved_at: string | null): Incident => ({
  id,
  kind: "lag",
  subject: "index-queue",
  state: resolved_at === null ? "firing" : "resolved",
  fired_at,
  resolved_at,
  message: "late",
  value: 1,
  threshold: 2,
});

const ALL = [
  incident("new", "2026-11-21T10:05:00Z", null),
  incident("over", "2026-11-21T10:03:00Z", "2026-11-21T10:04:30Z"),
  incident("old", "2026-11-21T10:00:00Z", null),
];

test("what goes on is shown, the longest first", () => {
  expect(openOf(ALL).map(({ id }) => id)).toEqual(["old", "new"]);
});

test("an incident lasts until it is over, or until now", () => {
  const now = Date.parse("2026-11-21T10:06:00Z");
  expect(ALL.map((one) => durationMs(one, now))).toEqual([60_000, 90_000, 360_000]);
  expect(durationMs(incident("ahead", "2026-11-21T11:00:00Z", null), now)).toBe(0);
});
