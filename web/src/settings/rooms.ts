import { mayAct, type Role, type Session } from "../session/session.ts";

/** The rooms of Settings, and who may enter; for everybody else the server would answer 403. */
const ROOMS = [
  { to: "/settings/keys", name: "keys", needs: "admin" },
  { to: "/settings/members", name: "members", needs: "admin" },
  { to: "/settings/channels", name: "channels", needs: "editor" },
  { to: "/settings/quarantine", name: "quarantine", needs: "editor" },
  { to: "/settings/dead-letters", name: "deadLetters", needs: "editor" },
  { to: "/settings/outbox", name: "outbox", needs: "admin" },
  { to: "/settings/retention", name: "retention", needs: "viewer" },
  { to: "/settings/first-event", name: "first", needs: "admin" },
  { to: "/settings/account", name: "account", needs: "viewer" },
] as const satisfies readonly { to: string; name: string; needs: Role }[];

export function roomsFor(session: Session | null): (typeof ROOMS)[number][] {
  // A key has no account.
  return ROOMS.filter((room) => mayAct(session, room.needs) && (room.name !== "account" || session?.kind === "member"));
}
