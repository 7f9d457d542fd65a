import { expect, test } from "vitest";
import { readMetrics, servedRoutes } from "./metrics.ts";

const TEXT = `# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{method="GET",route="/v1/keys/{id}",status="404"} 2
http_requests_total{method="GET",route="/v1/keys/{id}",status="204"} 5
http_requests_total{method="POST",route="/v1/search",status="200"} 40 1795300000000
http_requests_total{method="POST",route="other",status="404"} 0
up 1
odd{label="a \\"b\\" \\\\ c\\nd"} NaN
odd{label="a \\"b\\" \\\\ c\\nd"} 3
nonsense
`;

test("lines are read with their labels", () => {
  const metrics = readMetrics(TEXT);
  expect(metrics).toContainEqual({ name: "up", labels: {}, value: 1 });
  expect(metrics.at(-1)).toEqual({ name: "odd", labels: { label: 'a "b" \\ c\nd' }, value: 3 });
  expect(metrics).toHaveLength(6);
});

test("requests are added up by route, with their statuses", () => {
  expect(servedRoutes(readMetrics(TEXT))).toEqual([
    { method: "POST", route: "/v1/search", requests: 40, statuses: [["200", 40]] },
    {
      method: "GET",
      route: "/v1/keys/{id}",
      requests: 7,
      statuses: [
        ["204", 5],
        ["404", 2],
      ],
    },
  ]);
});
