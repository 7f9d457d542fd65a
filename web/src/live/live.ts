import { keepPreviousData, type QueryKey, type UseQueryResult, useQuery } from "@tanstack/react-query";
import type { Topic } from "./push.ts";
import { usePushState } from "./usePush.ts";

/**
 * Values that follow the server. Pages say what they want to know, how it is asked and what it depends on, not when: this is the one
 * place that decides it. Over the connection (`push.ts`) the server tells what has changed; without one everything is asked every 5 s.
 */
export const POLL_MS = 5_000;
/** While changes are told: ranges that end now move on all the same, and whatever was not told is seen. */
const PUSHED_POLL_MS = 15_000;

export interface LiveQuery<T> {
  key: QueryKey;
  ask: (signal: AbortSignal) => Promise<T>;
  /** It is asked when one of these changes. */
  topics: readonly Topic[];
  /** For what is costly to ask: never more often than this. */
  everyMs?: number;
}

export function useLive<T>({ key, ask, topics, everyMs }: LiveQuery<T>): UseQueryResult<T> {
  const isPushed = usePushState() === "open";
  return useQuery({
    queryKey: ["live", ...key],
    queryFn: ({ signal }) => ask(signal),
    meta: { topics: everyMs === undefined ? topics : [] },
    refetchInterval: everyMs ?? (isPushed ? PUSHED_POLL_MS : POLL_MS),
    // Another range or filter: the old picture stays until the new one is there.
    placeholderData: keepPreviousData,
    retry: false,
  });
}

export type Freshness =
  | { state: "waiting" }
  | { state: "live"; at: number }
  /** What is shown is from `since`; `error` says why there is nothing newer. */
  | { state: "stale"; since: number | null; error: unknown };

/** How fresh a page is: as the stalest of what it shows. */
export function freshnessOf(
  results: readonly Pick<UseQueryResult, "dataUpdatedAt" | "error" | "isPending">[],
): Freshness {
  const failed = results.find((result) => result.error !== null);
  const times = results.map((result) => result.dataUpdatedAt).filter((at) => at > 0);
  if (failed) return { state: "stale", since: times.length > 0 ? Math.min(...times) : null, error: failed.error };
  if (times.length < results.length) return { state: "waiting" };
  return { state: "live", at: Math.min(...times) };
}
