import { expect, test } from "vitest";
import { formatsFor } from "../format/format.ts";
import { en } from "../language/en.ts";
import { ko } from "../language/ko.ts";
import { durationMs, type Incident, KINDS, openOf, wordsOf } from "./incidents.ts";

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

test("what was seen is told in the reader's language, and else as the server says it", () => {
  const of = (kind: Incident["kind"], value: number | null) => ({
    ...incident("i", "", null),
    kind,
    value,
    threshold: 300,
  });
  const say = (one: Incident) => wordsOf(one, en, formatsFor("en"));
  expect(say(of("lag", 412.5))).toBe("The oldest message of index-queue had waited 6.9 min, limit 5 min");
  expect(say(of("dead_letters", 1))).toBe("1 message in index-queue");
  expect(say(of("dead_letters", 2_000))).toBe("2,000 messages in index-queue");
  expect(say(of("disk", 12_300_000))).toBe("12.3 MB left on the disk of the data folder, limit 300 byte");
  expect(say(of("cloudwatch", 7))).toBeNull();
  expect(say({ ...of("lag", 7), threshold: null })).toBeNull();
  for (const kind of KINDS) {
    expect(say(of(kind, null))).toBeNull();
    if (kind !== "cloudwatch") expect(wordsOf(of(kind, 7), ko, formatsFor("ko"))).toMatch(/[가-힣].*7/);
  }
});
