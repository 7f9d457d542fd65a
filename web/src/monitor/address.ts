import { type Last, rangeAddress, readRange, type TimeRange } from "../range/range.ts";

export interface MonitorSearch {
  last?: Last;
  from?: string;
  to?: string;
}

const USUAL: Last = "1h";

export function readMonitorSearch(search: Record<string, unknown>): MonitorSearch {
  return rangeAddress(readRange(search, USUAL));
}

export function monitorRange(search: MonitorSearch): TimeRange {
  return readRange(search as Record<string, unknown>, USUAL);
}
