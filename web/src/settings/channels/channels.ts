import { call } from "../../api/client.ts";

export const KINDS = ["email", "webhook"] as const;
export type Kind = (typeof KINDS)[number];

/** Where alerts go. */
export interface Channel {
  id: string;
  kind: Kind;
  name: string;
  /** Gets the alerts about the pipeline itself. */
  operator: boolean;
  /** Addresses; of mail only. */
  to?: string[];
  /** The address itself is a secret; of webhooks only. */
  host?: string;
  created_at: string;
  /** The last delivery, if there was one. */
  last: { at: string; ok: boolean; error: string | null } | null;
}

export type NewChannel =
  | { kind: "email"; name: string; operator: boolean; to: string[] }
  | { kind: "webhook"; name: string; operator: boolean; url: string };

export interface Tested {
  ok: boolean;
  detail: string;
}

export async function listChannels(signal: AbortSignal): Promise<Channel[]> {
  return (await call<{ channels: Channel[] }>("GET", "/v1/channels", { signal })).channels;
}

/** The answer has a webhook's signing key, this once. */
export function createChannel(channel: NewChannel): Promise<{ channel: Channel; signing_key?: string }> {
  return call("POST", "/v1/channels", { body: channel });
}

export function setOperator(id: string, operator: boolean): Promise<Channel> {
  return call("PATCH", pathOf(id), { body: { operator } });
}

export function deleteChannel(id: string): Promise<void> {
  return call("DELETE", pathOf(id));
}

/** Sends a message now; answers when it was delivered or refused. */
export function testChannel(id: string): Promise<Tested> {
  return call("POST", `${pathOf(id)}/test`);
}

function pathOf(id: string): string {
  return `/v1/channels/${encodeURIComponent(id)}`;
}
