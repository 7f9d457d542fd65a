/** One condition on one field, as a chip shows it. */
export interface Filter {
  field: string;
  is: Comparison;
  /** Empty for `there` and `missing`. */
  value: string;
}

export const COMPARISONS = ["=", "!=", ">=", "<", "there", "missing"] as const;
export type Comparison = (typeof COMPARISONS)[number];

export function takesValue(is: Comparison): boolean {
  return is !== "there" && is !== "missing";
}

/** Conditions from an address, whatever stands there; each once. */
export function readFilters(found: unknown): Filter[] {
  if (!Array.isArray(found)) return [];
  let filters: Filter[] = [];
  for (const entry of found as unknown[]) {
    if (typeof entry !== "object" || entry === null) continue;
    const { field, is, value } = entry as Record<string, unknown>;
    const known = COMPARISONS.find((name) => name === is);
    if (typeof field !== "string" || field === "" || known === undefined) continue;
    const text = typeof value === "string" ? value : typeof value === "number" ? `${value}` : "";
    filters = withFilter(filters, { field, is: known, value: text });
  }
  return filters;
}

/** The query for a search: words, all of which have to be there, and conditions that hold all. */
export function queryOf(text: string | undefined, filters: readonly Filter[], more: readonly object[] = []): object {
  const words = (text ?? "").trim();
  const must =
    words === "" || words === "*" ? { match_all: {} } : { query_string: { query: words, default_operator: "and" } };
  const holds = filters.filter((f) => f.is !== "!=" && f.is !== "missing").map(condition);
  const holdsNot = filters.filter((f) => f.is === "!=" || f.is === "missing").map(condition);
  return { bool: { must: [must], filter: [...more, ...holds], must_not: holdsNot } };
}

function condition({ field, is, value }: Filter): object {
  switch (is) {
    case "=":
    case "!=":
      return { term: { [field]: value } };
    case ">=":
      return { range: { [field]: { gte: value } } };
    case "<":
      return { range: { [field]: { lt: value } } };
    case "there":
    case "missing":
      return { exists: { field } };
  }
}

/** With one more condition; one that is there already stays once. */
export function withFilter(filters: readonly Filter[], filter: Filter): Filter[] {
  return filters.some((f) => f.field === filter.field && f.is === filter.is && f.value === filter.value)
    ? [...filters]
    : [...filters, filter];
}

/** Fields of text that is found by words: their exact value stands beside. */
export function exactField(field: string, worded: ReadonlySet<string>): string {
  return worded.has(field) ? `${field}.keyword` : field;
}
