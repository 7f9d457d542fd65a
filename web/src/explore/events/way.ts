import { ApiError, call } from "../../api/client.ts";
import type { Tone } from "../../design/Notice.tsx";

const STATES = ["stored", "in_flight", "quarantined", "off", "unknown"] as const;
/** `clean`: nothing of it was refused. */
export type WayState = (typeof STATES)[number] | "clean";

/** Where an event has been, as the server knows it; what it cannot know is null. */
export interface Way {
  document: string;
  type: string;
  received_at: string;
  batch: { id: string; received_at: string; events: number; request_id: string | null } | null;
  lake: { state: string; group: string | null; object: string | null; committed_at: string | null };
  search: { state: string; index: string; document: string; indexed_at: string | null };
  detect: { state: string };
  quarantine: { day: string; id: string; code: string; at: string }[];
}

/** The way of an event; none where the server does not tell ways. */
export async function askWay(index: string, document: string, signal: AbortSignal): Promise<Way | null> {
  try {
    return await call<Way>("GET", `/v1/events/${encodeURIComponent(document)}/way`, { query: { index }, signal });
  } catch (error) {
    if (error instanceof ApiError && (error.status === 404 || error.status === 405)) return null;
    throw error;
  }
}

export interface Station {
  name: "batch" | "lake" | "search" | "detect" | "quarantine";
  state: WayState;
}

/**
 * The stations in their order. What was seen by this page itself goes before what the server says: rows that SQL has found, and the
 * document that is being looked at. A word that is not known is no state.
 */
export function stationsOf(way: Way | null, rows: number | undefined): Station[] {
  const lake = stateOf(way?.lake.state);
  return [
    { name: "batch", state: way?.batch ? "stored" : "unknown" },
    { name: "lake", state: rows !== undefined && rows > 0 ? "stored" : lake },
    { name: "search", state: "stored" },
    { name: "detect", state: stateOf(way?.detect.state) },
    { name: "quarantine", state: way === null ? "unknown" : way.quarantine.length > 0 ? "quarantined" : "clean" },
  ];
}

function stateOf(said: string | undefined): WayState {
  return STATES.find((state) => state === said) ?? "unknown";
}

export const TONES: Record<WayState, Tone> = {
  stored: "good",
  in_flight: "neutral",
  quarantined: "bad",
  clean: "good",
  off: "neutral",
  unknown: "warn",
};
