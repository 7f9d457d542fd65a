import { call } from "../../api/client.ts";
import type { Scope } from "../../session/session.ts";

export interface KeyRecord {
  id: string;
  scope: Scope;
  /** Empty for any. */
  sources: string[];
  types: string[];
  origins: string[];
  max_age_days: number | null;
  rate_per_s: number | null;
  created: string;
  revoked_at?: string;
  name: string;
}

export interface NewKey {
  scope: Scope;
  name: string;
  sources: string[];
  types: string[];
  origins: string[];
  rate_per_s?: number;
}

export async function listKeys(signal: AbortSignal): Promise<KeyRecord[]> {
  const { keys } = await call<{ keys: KeyRecord[] }>("GET", "/v1/keys", { signal });
  return keys.sort((a, b) => b.created.localeCompare(a.created));
}

/** The answer has the secret, this once. */
export function createKey(key: NewKey): Promise<KeyRecord & { key: string }> {
  return call("POST", "/v1/keys", { body: key });
}

export function revokeKey(id: string): Promise<void> {
  return call("DELETE", `/v1/keys/${encodeURIComponent(id)}`);
}

/** `a, b` and line by line. */
export function namesIn(text: string): string[] {
  return text.split(/[,\n]/).flatMap((name) => (name.trim() === "" ? [] : [name.trim()]));
}
