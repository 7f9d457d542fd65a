import { call } from "../../api/client.ts";

export const STATES = ["open", "repaired", "replayed"] as const;
export type State = (typeof STATES)[number];

export interface RecordRow {
  handle: string;
  state: State;
  /** The stage that refused it. */
  origin: string;
  code: string;
  reason: string;
  pointer: string | null;
  type: string | null;
  key: string | null;
  received: string;
  size_bytes: number;
  truncated: boolean;
  preview: string;
}

export type Bytes = { text: string } | { base64: string };

export type Outcome =
  | { outcome: "sent"; events: unknown }
  | { outcome: "already_sent"; at: string }
  | { outcome: "refused"; errors: { code?: string; pointer?: string | null; reason?: string }[] }
  | { outcome: "missing" };

export interface WholeRecord extends RecordRow {
  bytes: Bytes;
  repaired: Bytes | null;
  /** What sending it again would do now. */
  replay: Outcome;
}

export interface Selection {
  code: string;
  state: State | "";
  after?: string;
}

export function listRecords({ code, state, after }: Selection, signal: AbortSignal) {
  return call<{ records: RecordRow[]; next: string | null }>("GET", "/v1/quarantine", {
    query: { code, state, after, limit: 50 },
    signal,
  });
}

export function showRecord(handle: string, signal: AbortSignal): Promise<WholeRecord> {
  return call("GET", `/v1/quarantine/${handle.split("/").map(encodeURIComponent).join("/")}`, { signal });
}

/** What would become of other bytes, or, with `keep`, keeps them beside the record. */
export async function repair(handle: string, text: string, keep: "look" | "keep"): Promise<Outcome> {
  const body = { repairs: [{ handle, text }], dry_run: keep === "look" };
  const { results } = await call<{ results: Outcome[] }>("POST", "/v1/quarantine/repair", { body });
  return results[0] ?? { outcome: "missing" };
}

/** Sends the repair, or the bytes themselves, to whoever refused them. */
export async function replay(handle: string): Promise<Outcome> {
  const { results } = await call<{ results: Outcome[] }>("POST", "/v1/quarantine/replay", {
    body: { handles: [handle] },
  });
  return results[0] ?? { outcome: "missing" };
}

/** Bytes as text that can be looked at without harm: what is no text stands as \xNN. */
export function visible(bytes: Bytes): string {
  if ("text" in bytes) return escaped(bytes.text);
  const binary = atob(bytes.base64);
  return [...binary]
    .map((character) =>
      /[\x20-\x7e\n]/.test(character) ? character : `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
    )
    .join("");
}

/** Marks that are not seen, or that turn the direction of writing, are told by their number. */
function escaped(text: string): string {
  return text.replace(/[^\P{C}\n\t]/gu, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);
}
