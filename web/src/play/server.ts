import { ApiError, call, isRecord, refusal } from "../api/client.ts";
import { Outgoing, type OutgoingEvent, openWaiting, type Sent } from "./outgoing.ts";

export interface GameConfig {
  /** Public: it may write the game's events and nothing else. */
  key: string;
  source: string;
}

export interface RankingEntry {
  rank: number;
  nickname: string;
  success_rate: number;
  clicked_count: number;
  total_squares: number;
  at: string;
}

export interface Ranking {
  day: string;
  entries: RankingEntry[];
}

/** Where the events of this game belong. */
export const SOURCE = "square-blitz";

/** The server's own key for the game; `?key=` in the page's address stands in where the server gives none. */
async function gameKey(): Promise<string | null> {
  try {
    return (await call<GameConfig>("GET", "/v1/game/config")).key;
  } catch (error) {
    if (error instanceof ApiError && !error.isPassing) return new URLSearchParams(window.location.search).get("key");
    throw error;
  }
}

let key: Promise<string | null> | null = null;

/** Sends one event. Which answer means what is documented with the API: docs/events.md. */
async function send(event: OutgoingEvent): Promise<Sent> {
  try {
    key ??= gameKey();
    const secret = await key;
    if (secret === null) return forgetKey({ outcome: "later" });
    const response = await fetch("/v1/events", {
      method: "POST",
      headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
      body: JSON.stringify(event),
      credentials: "omit",
      // The page may be closed right after a game.
      keepalive: true,
    });
    return verdict(response, await response.json().catch(() => undefined));
  } catch {
    return forgetKey({ outcome: "later" });
  }
}

function verdict(response: Response, body: unknown): Sent {
  const error = refusal(response, body);
  const later: Sent =
    error.retryAfterS === undefined ? { outcome: "later" } : { outcome: "later", afterMs: error.retryAfterS * 1_000 };
  if (response.ok) return isRecord(body) && Number(body.unavailable ?? 0) > 0 ? later : { outcome: "stored" };
  // A revoked key: the server has another one, or will have.
  if (response.status === 401 || response.status === 403) return forgetKey({ outcome: "later" });
  // No such call, for now: a server that is being replaced, or a proxy without one behind it.
  if (error.isPassing || response.status === 404) return later;
  return { outcome: "refused", reason: reasonOf(body) ?? error.message };
}

function forgetKey(sent: Sent): Sent {
  key = null;
  return sent;
}

function reasonOf(body: unknown): string | undefined {
  const errors = isRecord(body) && Array.isArray(body.errors) ? body.errors : [];
  const first: unknown = errors[0];
  return isRecord(first) && typeof first.reason === "string" ? first.reason : undefined;
}

/** The one queue of this page. It begins with what earlier visits left. */
export const outgoing: Promise<Outgoing> = openWaiting().then((waiting) => {
  const queue = new Outgoing(waiting, (event) => oneTabAtATime(() => send(event)));
  window.addEventListener("online", () => void queue.flush());
  void queue.flush();
  return queue;
});

/** Two tabs share the database; without locks the server still stores an event once. */
function oneTabAtATime<T>(work: () => Promise<T>): Promise<T> {
  return navigator.locks ? navigator.locks.request("sluice.outgoing", work) : work();
}

export function ranking(day: string, signal: AbortSignal): Promise<Ranking> {
  return call<Ranking>("GET", "/v1/game/ranking", { query: { day }, signal });
}
