/**
 * The connection over which the server tells what has changed: `GET /v1/live` as a WebSocket. It says topics and never values, so that
 * whatever a page shows is asked in one way. Where the server has no such connection (AWS, for now), pages ask again and again.
 */

export const TOPICS = ["events", "queues", "ledger", "metrics", "incidents"] as const;
export type Topic = (typeof TOPICS)[number];

/** `off`: nobody looks; `lost`: it was open, and is tried again. */
export type PushState = "off" | "connecting" | "open" | "lost";

/** What is used of a WebSocket. */
export interface Socket {
  onopen: (() => void) | null;
  onmessage: ((message: { data: unknown }) => void) | null;
  onclose: (() => void) | null;
  send: (text: string) => void;
  close: () => void;
}

interface Outside {
  connect: () => Socket;
  /** What a tab without a session has to say first. */
  key: () => string | null;
  random: () => number;
}

/** The server is heard at least every 15 s. */
const SILENT_MS = 40_000;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;
/** After so many tries without one that opened, the server has no such connection, or something between does not let it through. */
const NEVER_TRIES = 3;
const NEVER_PAUSE_MS = 600_000;
/** Pages are told at most this often: what is asked then costs more than a frame. */
const TOLD_MS = 2_000;

/** From one try that failed to the next: doubled each time, and scattered, so that not all pages come back at once. */
export function pauseMs(failures: number, hasOpened: boolean, random: number): number {
  const grown = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.max(0, failures - 1));
  const whole = !hasOpened && failures >= NEVER_TRIES ? NEVER_PAUSE_MS : grown;
  return whole * (0.5 + random / 2);
}

export class Push {
  #state: PushState = "off";
  #listeners = new Set<() => void>();
  #told: ((topics: ReadonlySet<Topic>) => void) | null = null;
  #socket: Socket | null = null;
  #hasOpened = false;
  #failures = 0;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #pending = new Set<Topic>();
  #telling: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly outside: Outside) {}

  get state(): PushState {
    return this.#state;
  }

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Connects, and stays connected until it is stopped. */
  start(told: (topics: ReadonlySet<Topic>) => void): void {
    this.stop();
    this.#told = told;
    this.#connect();
  }

  stop(): void {
    this.#told = null;
    clearTimeout(this.#retry);
    clearTimeout(this.#telling);
    this.#telling = undefined;
    this.#pending.clear();
    this.#failures = 0;
    this.#drop();
    this.#set("off");
  }

  #connect(): void {
    if (this.#state !== "lost") this.#set("connecting");
    let socket: Socket;
    try {
      socket = this.outside.connect();
    } catch {
      this.#failed();
      return;
    }
    this.#socket = socket;
    socket.onopen = () => {
      const key = this.outside.key();
      if (key !== null) socket.send(JSON.stringify({ key }));
      const wasLost = this.#state === "lost";
      this.#hasOpened = true;
      this.#set("open");
      this.#heard();
      // Whatever has changed meanwhile was not told.
      if (wasLost) this.#tell(TOPICS);
    };
    socket.onmessage = ({ data }) => {
      this.#failures = 0;
      this.#heard();
      this.#tell(topicsIn(data));
    };
    socket.onclose = () => this.#failed();
  }

  #heard(): void {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#failed(), SILENT_MS);
  }

  #failed(): void {
    this.#drop();
    this.#failures += 1;
    this.#set(this.#hasOpened ? "lost" : "connecting");
    const pause = pauseMs(this.#failures, this.#hasOpened, this.outside.random());
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#connect(), pause);
  }

  #drop(): void {
    clearTimeout(this.#silence);
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    socket.onopen = null;
    socket.onmessage = null;
    socket.onclose = null;
    socket.close();
  }

  /** The first at once, and what comes soon after it together. */
  #tell(topics: Iterable<Topic>): void {
    for (const topic of topics) this.#pending.add(topic);
    if (this.#pending.size === 0 || this.#telling !== undefined) return;
    const all = this.#pending;
    this.#pending = new Set();
    this.#telling = setTimeout(() => {
      this.#telling = undefined;
      this.#tell([]);
    }, TOLD_MS);
    this.#told?.(all);
  }

  #set(state: PushState): void {
    if (state === this.#state) return;
    this.#state = state;
    for (const listener of this.#listeners) listener();
  }
}

/** `{"topics": [...]}`; topics of a newer server, and whatever else comes, are passed over. */
export function topicsIn(data: unknown): Topic[] {
  try {
    const frame: unknown = JSON.parse(String(data));
    const named = (frame as { topics?: unknown } | null)?.topics;
    return Array.isArray(named) ? TOPICS.filter((topic) => named.includes(topic)) : [];
  } catch {
    return [];
  }
}

/** Whether a question depends on something that has changed. */
export function concerns(meta: Record<string, unknown> | undefined, changed: ReadonlySet<Topic>): boolean {
  const topics = meta?.topics;
  return Array.isArray(topics) && topics.some((topic: Topic) => changed.has(topic));
}
