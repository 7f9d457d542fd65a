import { call } from "./client.ts";
import { turns } from "./turns.ts";

/** All tables. */
export const EVERYWHERE = "sluice-*";
/** All tables whose types have a schema: by the data of others no engine counts. */
export const WITH_SCHEMA = "sluice-*,-sluice-event-*";

export interface StoredEvent {
  id: string;
  source: string;
  type: string;
  time: string;
  receivedtime?: string;
  subject?: string;
  userid?: string;
  data?: unknown;
  [attribute: string]: unknown;
}

export interface Hit {
  _index: string;
  _id: string;
  _source: StoredEvent;
  sort?: unknown[];
}

export interface Bucket {
  key: string | number;
  key_as_string?: string;
  doc_count: number;
  [aggregation: string]: unknown;
}

export interface Found {
  took: number;
  hits: { total: { value: number; relation: "eq" | "gte" }; hits: Hit[] };
  aggregations?: Record<string, unknown>;
}

export function search(index: string, body: object, signal?: AbortSignal): Promise<Found> {
  const options = { query: { index }, body, ...(signal ? { signal } : {}) };
  return turns.take(() => call<Found>("POST", "/v1/search", options), signal);
}

/** Buckets of an aggregation, by its path: `buckets(found, "routes")`. */
export function buckets(holder: unknown, name: string): Bucket[] {
  const found = member(member(holder, name), "buckets");
  return Array.isArray(found) ? (found as Bucket[]) : [];
}

/** The value of a metric, or none where nothing was counted. */
export function metric(holder: unknown, name: string): number | null {
  const value = member(member(holder, name), "value");
  return typeof value === "number" ? value : null;
}

function member(holder: unknown, name: string): unknown {
  return typeof holder === "object" && holder !== null ? (holder as Record<string, unknown>)[name] : undefined;
}

/** `sluice-game_result-2026.11` → `game_result`. */
export function tableOf(index: string): string {
  return index.replace(/^sluice-/, "").replace(/-\d{4}\.\d{2}$/, "");
}
