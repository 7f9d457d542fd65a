import { call } from "../api/client.ts";
import type { Formats } from "../format/format.ts";
import type { Messages } from "../language/en.ts";

export const KINDS = ["dead_letters", "lag", "ledger", "function_errors", "disk", "cloudwatch"] as const;
export type Kind = (typeof KINDS)[number];

/** Something that was or is wrong with the pipeline itself. */
export interface Incident {
  id: string;
  kind: Kind;
  /** What it is about: a queue, a function, a sink. */
  subject: string;
  state: "firing" | "resolved";
  fired_at: string;
  resolved_at: string | null;
  message: string;
  value: number | null;
  threshold: number | null;
}

/** What was seen, in words; none for kinds and figures that we have no words for. */
export function wordsOf(
  { kind, subject, value, threshold }: Incident,
  t: Messages,
  { count, duration, bytes }: Formats,
): string | null {
  if (value === null) return null;
  switch (kind) {
    case "dead_letters":
    case "function_errors":
      return t.monitor.incidentTexts[kind](value, count(value), subject);
    case "ledger":
      return t.monitor.incidentTexts.ledger(value, count(value));
    case "lag":
      return threshold === null
        ? null
        : t.monitor.incidentTexts.lag(duration(value * 1_000), duration(threshold * 1_000), subject);
    case "disk":
      return threshold === null ? null : t.monitor.incidentTexts.disk(bytes(value), bytes(threshold));
    default:
      return null;
  }
}

const SHOWN = 50;

/** The newest first. */
export async function askIncidents(signal: AbortSignal): Promise<Incident[]> {
  const query = { state: "all", limit: SHOWN };
  return (await call<{ incidents: Incident[] }>("GET", "/v1/incidents", { query, signal })).incidents;
}

/** Those that go on: the longest first. */
export function openOf(incidents: readonly Incident[]): Incident[] {
  return incidents
    .filter((incident) => incident.state === "firing")
    .sort((a, b) => a.fired_at.localeCompare(b.fired_at));
}

/** How long it went on, in milliseconds; up to now where it still does. */
export function durationMs({ fired_at, resolved_at }: Incident, now: number): number {
  return Math.max(0, (resolved_at === null ? now : Date.parse(resolved_at)) - Date.parse(fired_at));
}
