import { queryOptions, useQuery } from "@tanstack/react-query";
import { ApiError, call } from "../api/client.ts";
import { storedKey, storeKey } from "./key.ts";

export type Role = "viewer" | "editor" | "admin";

export interface Member {
  id: string;
  email: string;
  name: string;
  role: Role;
  created_at: string;
  last_seen_at?: string | null;
}

/** Who asks. What a key may do is not known where the server does not tell it. */
export type Session = { kind: "member"; member: Member } | { kind: "key"; scope: Scope | null };

export type Scope = "write" | "read" | "admin";

export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: currentSession,
  staleTime: 60_000,
  retry: false,
});

async function currentSession(): Promise<Session | null> {
  if (storedKey() !== null) return currentKey();
  try {
    const { member } = await call<{ member: Member | null }>("GET", "/v1/sessions/current");
    return member === null ? null : { kind: "member", member };
  } catch (error) {
    // 404: a server without members, where only keys sign in.
    if (error instanceof ApiError && (error.status === 401 || error.status === 404)) return null;
    throw error;
  }
}

async function currentKey(): Promise<Session | null> {
  try {
    return { kind: "key", scope: (await call<{ scope: Scope }>("GET", "/v1/keys/current")).scope };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    // Revoked meanwhile: whoever has this tab signs in again.
    if (error.status === 401) {
      storeKey(null);
      return null;
    }
    // A server that does not tell it decides by itself.
    if (error.status === 404 || error.status === 405) return { kind: "key", scope: null };
    throw error;
  }
}

export function useSession(): Session | null {
  return useQuery(sessionQuery).data ?? null;
}

const RANK: Record<Role, number> = { viewer: 0, editor: 1, admin: 2 };
const RANK_OF_KEY: Record<Scope, number> = { write: -1, read: RANK.viewer, admin: RANK.admin };

/** Whether it is worth offering; the server decides. */
export function mayAct(session: Session | null, needed: Role): boolean {
  if (session === null) return false;
  if (session.kind === "member") return RANK[session.member.role] >= RANK[needed];
  return session.scope === null || RANK_OF_KEY[session.scope] >= RANK[needed];
}

export async function signInWithPassword(email: string, password: string): Promise<void> {
  await call("POST", "/v1/sessions", { body: { email, password } });
}

export async function signInWithLink(link: string, who: { email: string; name: string; password: string }) {
  await call("POST", "/v1/sessions", { body: { link, ...who } });
}

/** Takes a key if the server knows it and it may read. */
export async function signInWithKey(key: string): Promise<void> {
  const before = storedKey();
  storeKey(key);
  try {
    await call("GET", "/v1/status");
  } catch (error) {
    storeKey(before);
    throw error;
  }
}

export async function signOut(): Promise<void> {
  if (storedKey() !== null) {
    storeKey(null);
    return;
  }
  await call("DELETE", "/v1/sessions/current");
}
