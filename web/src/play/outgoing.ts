/**
 * Events on their way to the server. Each is written down before it is sent and crossed out when the server has answered for it, so a
 * reload, a closed lid or a dead network lose none. Each is a request of its own that never changes: its event has an id, so a request
 * whose answer was lost and that is sent again is stored once.
 */

export interface OutgoingEvent {
  id: string;
  source: string;
  type: string;
  time: string;
  userid?: string;
  sessionid?: string;
  data: Record<string, unknown>;
}

/** Where events wait. */
export interface Waiting {
  add: (event: OutgoingEvent) => Promise<void>;
  /** The oldest, if any. */
  first: () => Promise<{ key: IDBValidKey; event: OutgoingEvent } | undefined>;
  remove: (key: IDBValidKey) => Promise<void>;
  count: () => Promise<number>;
}

/** What became of one try. `later` says when the next makes sense, if the server said so. */
export type Sent =
  | { outcome: "stored" }
  | { outcome: "refused"; reason: string }
  | { outcome: "later"; afterMs?: number };

export interface OutgoingState {
  waiting: number;
  /** The last event that the server will never take, and why. */
  refused: string | null;
  /** The last try did not get through. */
  held: boolean;
  /** Events that could neither be written down nor sent. */
  lost: number;
}

const FIRST_PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 60_000;

/** From one try that failed to the next: 2 s, doubled each time, at most a minute. */
export function pauseMs(failures: number): number {
  return Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.max(0, failures - 1));
}

export class Outgoing {
  #state: OutgoingState = { waiting: 0, refused: null, held: false, lost: 0 };
  #listeners = new Set<() => void>();
  #flushing: Promise<void> | null = null;
  #again = false;
  #failures = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly waiting: Waiting,
    private readonly send: (event: OutgoingEvent) => Promise<Sent>,
  ) {}

  get state(): OutgoingState {
    return this.#state;
  }

  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Writes an event down and tries to send all that wait. Resolves when it is written down. */
  async add(event: OutgoingEvent): Promise<void> {
    try {
      await this.waiting.add(event);
      this.#set({ waiting: await this.waiting.count() });
    } catch {
      // No room to write it down: it goes now or never.
      const sent = await this.send(event);
      if (sent.outcome === "refused") this.#set({ refused: sent.reason });
      if (sent.outcome === "later") this.#set({ lost: this.#state.lost + 1 });
      return;
    }
    void this.flush();
  }

  /** Sends what waits, oldest first. Calls while it runs make it look once more. */
  flush(): Promise<void> {
    if (this.#flushing) {
      this.#again = true;
      return this.#flushing;
    }
    clearTimeout(this.#timer);
    this.#flushing = this.#drain()
      .catch(() => this.#holdBack())
      .finally(() => {
        this.#flushing = null;
        if (this.#again) {
          this.#again = false;
          void this.flush();
        }
      });
    return this.#flushing;
  }

  async #drain(): Promise<void> {
    for (;;) {
      const next = await this.waiting.first();
      if (next === undefined) {
        this.#failures = 0;
        this.#set({ waiting: 0, held: false });
        return;
      }
      const sent = await this.send(next.event);
      if (sent.outcome === "later") {
        this.#set({ waiting: await this.waiting.count() });
        this.#holdBack(sent.afterMs);
        return;
      }
      this.#failures = 0;
      await this.waiting.remove(next.key);
      const refused = sent.outcome === "refused" ? sent.reason : this.#state.refused;
      this.#set({ waiting: await this.waiting.count(), refused, held: false });
    }
  }

  /** Tries again later. */
  #holdBack(afterMs?: number): void {
    this.#failures += 1;
    this.#set({ held: true });
    this.#timer = setTimeout(() => void this.flush(), afterMs ?? pauseMs(this.#failures));
  }

  #set(change: Partial<OutgoingState>): void {
    this.#state = { ...this.#state, ...change };
    for (const listener of this.#listeners) listener();
  }
}

const DATABASE = "sluice-play";
const STORE = "outgoing";

/** Events that wait in the browser's own database; in memory where there is none. */
export async function openWaiting(): Promise<Waiting> {
  try {
    return inDatabase(await openDatabase());
  } catch {
    return inMemory();
  }
}

function openDatabase(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { autoIncrement: true });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("the database is held by another version of the page"));
  });
}

function inDatabase(database: IDBDatabase): Waiting {
  /** Resolves when the transaction is on disk, not when the request has an answer. */
  const within = <T>(mode: IDBTransactionMode, ask: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      const transaction = database.transaction(STORE, mode, { durability: "strict" });
      const request = ask(transaction.objectStore(STORE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error);
    });
  return {
    add: async (event) => {
      await within("readwrite", (store) => store.add(event));
    },
    first: async () => {
      const cursor = await within<IDBCursorWithValue | null>("readonly", (store) => store.openCursor());
      return cursor === null ? undefined : { key: cursor.primaryKey, event: cursor.value as OutgoingEvent };
    },
    remove: async (key) => {
      await within("readwrite", (store) => store.delete(key));
    },
    count: () => within("readonly", (store) => store.count()),
  };
}

function inMemory(): Waiting {
  const events = new Map<number, OutgoingEvent>();
  let next = 0;
  return {
    add: async (event) => {
      events.set(next++, event);
    },
    first: async () => {
      const [entry] = events;
      return entry && { key: entry[0], event: entry[1] };
    },
    remove: async (key) => {
      events.delete(key as number);
    },
    count: async () => events.size,
  };
}
