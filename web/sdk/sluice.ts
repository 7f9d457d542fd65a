/**
 * Sends events from a page. No dependencies, no cookies, nothing kept beyond the page.
 *
 *     import { Sluice } from "https://sluice.example/sdk/sluice.js";
 *     const sluice = new Sluice({ url: "https://sluice.example", key: "sk_…", source: "shop" });
 *     sluice.send("order.paid", { total: 42 });
 *
 * Events go together, each with an id of its own, so that one that is sent twice is stored once. What the server cannot take now is tried
 * again while the page is open, and what waits when the page is left is sent then.
 */

export interface Options {
  /** Address of the server, without a path. */
  url: string;
  /** A write key. It may be public: it can do nothing but write events of its sources. */
  key: string;
  /** What sends. */
  source: string;
  /** Called with what the server will never take: its answer, and how many events it was about. */
  onRefused?: (answer: unknown, events: number) => void;
}

/** What an event may say beside its data. */
export interface Attributes {
  /** RFC 3339; now, unless said otherwise. */
  time?: string;
  subject?: string;
  userid?: string;
}

/** A request that never changes, however often it is sent. */
interface Batch {
  /** Events as JSON, to be joined by commas. */
  events: string[];
  /** Characters of all of them. */
  size: number;
  isClosed: boolean;
  isOnItsWay: boolean;
}

/** Events wait this long for company. */
const WAIT_MS = 1_000;
const MOST_IN_BATCH = 100;
/** Two batches fit into the 64 KiB that a page may have on its way when it is left. A character may take three bytes. */
const BATCH_CHARACTERS = 10_000;
/** More than these are not kept in memory. */
const MOST_WAITING = 1_000;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;

export class Sluice {
  #options: Options;
  #batches: Batch[] = [];
  #session = randomId();
  #failures = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #sending = false;

  constructor(options: Options) {
    this.#options = { ...options, url: options.url.replace(/\/+$/, "") };
    const leave = () => void this.#leave();
    globalThis.addEventListener?.("pagehide", leave);
    globalThis.document?.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "hidden") leave();
    });
  }

  /** How many events the server has not answered for yet. */
  get waiting(): number {
    return this.#batches.reduce((sum, batch) => sum + batch.events.length, 0);
  }

  /** Puts an event among those to be sent, and answers its id; null where too many wait already. */
  send(type: string, data: unknown = {}, attributes: Attributes = {}): string | null {
    if (this.waiting >= MOST_WAITING) return null;
    const id = randomId();
    const event = { id, source: this.#options.source, type, time: new Date().toISOString(), sessionid: this.#session };
    const text = JSON.stringify({ ...event, ...attributes, data });
    let batch = this.#batches.at(-1);
    if (
      batch === undefined ||
      batch.isClosed ||
      batch.events.length >= MOST_IN_BATCH ||
      batch.size + text.length > BATCH_CHARACTERS
    ) {
      batch = { events: [], size: 0, isClosed: false, isOnItsWay: false };
      this.#batches.push(batch);
    }
    batch.events.push(text);
    batch.size += text.length;
    if (!this.#sending) this.#timer ??= setTimeout(() => void this.#drain(), WAIT_MS);
    return id;
  }

  /** Sends what waits, now. Resolves when the server has answered, or has to be asked again later. */
  async flush(): Promise<void> {
    await this.#drain();
  }

  /** One batch after the other, the oldest first. */
  async #drain(): Promise<void> {
    if (this.#sending) return;
    this.#sending = true;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    let pauseMs = 0;
    try {
      for (let batch = this.#next(); batch !== undefined && pauseMs === 0; batch = this.#next())
        pauseMs = await this.#deliver(batch);
    } finally {
      this.#sending = false;
      if (pauseMs > 0) this.#timer = setTimeout(() => void this.#drain(), pauseMs);
    }
  }

  #next(): Batch | undefined {
    return this.#batches.find((batch) => !batch.isOnItsWay);
  }

  /** The page is left: everything goes at once, as far as the browser lets it. It may come back, and then goes on. */
  async #leave(): Promise<void> {
    const left = this.#batches.filter((batch) => !batch.isOnItsWay);
    const pauses = await Promise.all(left.map((batch) => this.#deliver(batch)));
    if (!this.#sending && this.#next()) this.#timer ??= setTimeout(() => void this.#drain(), Math.max(...pauses));
  }

  /** Milliseconds until the batch should be tried again; 0 where the server has answered for it. */
  async #deliver(batch: Batch): Promise<number> {
    const { url, key, onRefused } = this.#options;
    batch.isClosed = true;
    batch.isOnItsWay = true;
    let answer: unknown;
    let retryAfterS = Number.NaN;
    let isLater = true;
    try {
      // A request that needs no question before it: such a question is not asked any more when a page is left.
      const response = await fetch(`${url}/v1/events?key=${encodeURIComponent(key)}`, {
        method: "POST",
        headers: { "content-type": "text/plain" },
        body: `[${batch.events.join()}]`,
        credentials: "omit",
        keepalive: batch.size <= BATCH_CHARACTERS,
      });
      answer = await response.json().catch(() => null);
      retryAfterS = Number(response.headers.get("retry-after") ?? Number.NaN);
      const { status } = response;
      isLater = status === 408 || status === 429 || status >= 500 || Number(counted(answer).unavailable) > 0;
    } catch {
      // No answer: the network is away, or the page is.
    }
    batch.isOnItsWay = false;
    if (isLater) {
      this.#failures += 1;
      const grown = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this.#failures - 1));
      return retryAfterS > 0 ? retryAfterS * 1_000 : grown * (0.5 + Math.random() / 2);
    }
    this.#failures = 0;
    this.#batches = this.#batches.filter((other) => other !== batch);
    const rejected = Number(counted(answer).rejected ?? batch.events.length);
    if (rejected > 0) onRefused?.(answer, rejected);
    return 0;
  }
}

function counted(answer: unknown): { unavailable?: unknown; rejected?: unknown } {
  return typeof answer === "object" && answer !== null ? answer : {};
}

/** 128 random bits as a UUID. `crypto.randomUUID` exists on secure pages only. */
function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 15) | 64;
  bytes[8] = ((bytes[8] ?? 0) & 63) | 128;
  return Array.from(
    bytes,
    (byte, i) => (/^(4|6|8|10)$/.test(`${i}`) ? "-" : "") + byte.toString(16).padStart(2, "0"),
  ).join("");
}
