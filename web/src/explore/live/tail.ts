import type { Hit } from "../../api/search.ts";
import { type Filter, queryOf } from "../filters.ts";

/** Events may become findable in another order than they were received: this far back is looked each time. */
const OVERLAP_MS = 5_000;
const PAGE = 200;

/** By receive time, and then by what tells events apart. */
const order = (direction: "asc" | "desc") =>
  ["receivedtime", "id", "source", "time", "type"].map((field) => ({ [field]: { order: direction } }));

/** Follows events as they arrive, each once; the same way as `sluice watch`. */
export class Tail {
  /** Latest receive time that was seen, in milliseconds. */
  #latest: number | null = null;
  #shown = new Map<string, number>();

  constructor(
    private readonly text: string | undefined,
    private readonly filters: readonly Filter[],
  ) {}

  /** The next question: at first the last few, then what came since. */
  question(): object {
    if (this.#latest === null) {
      return { size: 50, query: queryOf(this.text, this.filters), sort: order("desc") };
    }
    const gte = new Date(this.#latest - OVERLAP_MS).toISOString();
    return {
      size: PAGE,
      query: queryOf(this.text, this.filters, [{ range: { receivedtime: { gte } } }]),
      // Newest first: with more events than a page holds, the newest are those that a person wants to see.
      sort: order("desc"),
    };
  }

  /** Takes an answer: those that were not shown yet, newest first. */
  take(hits: readonly Hit[]): Hit[] {
    const fresh: Hit[] = [];
    for (const hit of hits) {
      const received = Date.parse(hit._source.receivedtime ?? hit._source.time);
      if (!this.#shown.has(hit._id)) fresh.push(hit);
      this.#shown.set(hit._id, received);
      this.#latest = Math.max(this.#latest ?? received, received);
    }
    // An empty store answers nothing: from now on everything is new.
    this.#latest ??= 0;
    for (const [id, received] of this.#shown) {
      if (received < this.#latest - 2 * OVERLAP_MS) this.#shown.delete(id);
    }
    return fresh;
  }
}
