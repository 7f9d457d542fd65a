import { call } from "../../api/client.ts";
import type { Member, Role } from "../../session/session.ts";

export interface Invitation {
  member: Member;
  /** `/signin#link=…`; whoever opens it chooses the password. */
  link: string;
  expires_at: string;
}

export async function listMembers(signal: AbortSignal): Promise<Member[]> {
  return (await call<{ members: Member[] }>("GET", "/v1/members", { signal })).members;
}

export function inviteMember(member: { email: string; name: string; role: Role }): Promise<Invitation> {
  return call("POST", "/v1/members", { body: member });
}

export function changeRole(id: string, role: Role): Promise<void> {
  return call("PATCH", `/v1/members/${encodeURIComponent(id)}`, { body: { role } });
}

export function removeMember(id: string): Promise<void> {
  return call("DELETE", `/v1/members/${encodeURIComponent(id)}`);
}
