import { keepPreviousData, type QueryKey, type UseQueryResult, useQuery } from "@tanstack/react-query";

/**
 * Values that follow the server. Pages say what they want to know and how it is asked, not when: this is the one place that decides it.
 * Now that is a question every few seconds; a connection over which the server tells that something has changed invalidates the same
 * query keys and lengthens the pause, and no page has to know. What happens is seen within 5 s: the index takes up to two.
 */
export const POLL_MS = 3_000;

export interface LiveQuery<T> {
  key: QueryKey;
  ask: (signal: AbortSignal) => Promise<T>;
  /** For what is costly to ask. */
  everyMs?: number;
}

export function useLive<T>({ key, ask, everyMs = POLL_MS }: LiveQuery<T>): UseQueryResult<T> {
  return useQuery({
    queryKey: ["live", ...key],
    queryFn: ({ signal }) => ask(signal),
    refetchInterval: everyMs,
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
