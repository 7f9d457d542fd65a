import { type Last, rangeAddress, readRange, type TimeRange } from "../range/range.ts";
import { type Filter, readFilters } from "./filters.ts";

/** What a search page shows, all of it in its address: it can be sent to a colleague, and Back works. */
export interface ExploreSearch {
  q?: string;
  filters?: Filter[];
  last?: Last;
  from?: string;
  to?: string;
  /** Document id of the event that is open. */
  event?: string;
}

const USUAL: Last = "24h";

export function readExploreSearch(search: Record<string, unknown>): ExploreSearch {
  return {
    ...readTailSearch(search),
    ...rangeAddress(exploreRange(search)),
    ...(typeof search.event === "string" ? { event: search.event } : {}),
  };
}

export function exploreRange(search: Record<string, unknown> | ExploreSearch): TimeRange {
  return readRange(search as Record<string, unknown>, USUAL);
}

export interface TailSearch {
  q?: string;
  filters?: Filter[];
}

export function readTailSearch(search: Record<string, unknown>): TailSearch {
  const filters = readFilters(search.filters);
  return {
    ...(typeof search.q === "string" && search.q !== "" ? { q: search.q } : {}),
    ...(filters.length > 0 ? { filters } : {}),
  };
}

export interface SqlSearch {
  sql?: string;
}

export function readSqlSearch(search: Record<string, unknown>): SqlSearch {
  return typeof search.sql === "string" ? { sql: search.sql } : {};
}
