/** The best game on this browser. */
export interface Best {
  clicked: number;
  rate: number;
  at: string;
}

const NAME = "sluice.best";

export function readBest(): Best | null {
  try {
    return parseBest(localStorage.getItem(NAME));
  } catch {
    return null;
  }
}

export function keepBest(best: Best): void {
  try {
    localStorage.setItem(NAME, JSON.stringify(best));
  } catch {
    // Storage is switched off: there is no best.
  }
}

/** Whatever stands there: other versions of the page may have written it, or the player. */
export function parseBest(text: string | null): Best | null {
  if (text === null) return null;
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null) return null;
    const { clicked, rate, at } = value as Record<string, unknown>;
    if (typeof clicked !== "number" || typeof rate !== "number" || typeof at !== "string") return null;
    return rate >= 0 && rate <= 100 ? { clicked, rate, at } : null;
  } catch {
    return null;
  }
}

/** Whether a game beats the best so far. An equal one does not. */
export function isBetter(rate: number, best: Best | null): boolean {
  return best === null || rate > best.rate;
}
