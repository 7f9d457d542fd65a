// Who plays, as far as the browser remembers: a random name of no meaning, and the name that the player wants to be listed under.
const VISITOR = "sluice.visitor";
const NICKNAME = "sluice.nickname";
/** Longest nickname, in characters; the schema allows 64. */
export const NICKNAME_LENGTH = 20;

let visit: string | null = null;

/** 128 random bits as a UUID. `crypto.randomUUID` exists on secure pages only, and a game on a local network is not one. */
export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** The same in each visit of this browser. */
export function visitorId(): string {
  const known = read(VISITOR);
  if (known !== null) return known;
  const fresh = visitId();
  write(VISITOR, fresh);
  return fresh;
}

/** The same until the page is closed. */
export function visitId(): string {
  visit ??= randomId();
  return visit;
}

export function nickname(): string {
  return read(NICKNAME) ?? "";
}

export function keepNickname(name: string): void {
  write(NICKNAME, cleanNickname(name));
}

/** Without control characters and invisible marks, in one line, not too long. */
export function cleanNickname(name: string): string {
  const visible = name.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}]/gu, "").replace(/\s+/gu, " ");
  return [...visible.trim()].slice(0, NICKNAME_LENGTH).join("");
}

function read(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function write(name: string, value: string): void {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Storage is switched off: it is forgotten with the page.
  }
}
