/** One line of Prometheus' text format: a counter or gauge with its labels. */
export interface Metric {
  name: string;
  labels: Readonly<Record<string, string>>;
  value: number;
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** Lines that are comments, or none, are passed over. */
export function readMetrics(text: string): Metric[] {
  return text.split("\n").flatMap((line) => {
    const [, name, labels = "", value = ""] = LINE.exec(line) ?? [];
    const number = Number(value);
    if (name === undefined || Number.isNaN(number)) return [];
    const pairs = [...labels.matchAll(LABEL)].map(([, label = "", escaped = ""]) => [label, unescaped(escaped)]);
    return [{ name, labels: Object.fromEntries(pairs) as Record<string, string>, value: number }];
  });
}

function unescaped(text: string): string {
  return text.replace(/\\(.)/g, (_, character: string) => (character === "n" ? "\n" : character));
}

export interface ServedRoute {
  method: string;
  route: string;
  requests: number;
  /** By status, the lowest first. */
  statuses: [status: string, requests: number][];
}

/** The requests that the server itself answered, the most frequent first. */
export function servedRoutes(metrics: readonly Metric[]): ServedRoute[] {
  const routes = new Map<string, ServedRoute>();
  for (const { name, labels, value } of metrics) {
    if (name !== "http_requests_total" || value === 0) continue;
    const { method = "", route = "", status = "" } = labels;
    const key = `${method} ${route}`;
    const row = routes.get(key) ?? { method, route, requests: 0, statuses: [] };
    row.requests += value;
    row.statuses.push([status, value]);
    routes.set(key, row);
  }
  const rows = [...routes.values()];
  for (const row of rows) row.statuses.sort(([a], [b]) => a.localeCompare(b));
  return rows.sort((a, b) => b.requests - a.requests);
}
