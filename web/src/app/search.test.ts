import { createMemoryHistory, createRootRoute, createRoute, createRouter } from "@tanstack/react-router";
import { expect, test } from "vitest";
import { readExploreSearch } from "../explore/address.ts";
import { readQuarantineSearch } from "../settings/quarantine/address.ts";
import { only } from "./search.ts";

function searchOf(href: string, read: (search: Record<string, unknown>) => object): object {
  const root = createRootRoute();
  const page = createRoute({ getParentRoute: () => root, path: "/page", validateSearch: only(read) });
  const history = createMemoryHistory({ initialEntries: [href] });
  const router = createRouter({ routeTree: root.addChildren([page]), history });
  return JSON.parse(JSON.stringify(router.matchRoutes(router.latestLocation).at(-1)?.search));
}

test("a page is given what it reads", () => {
  const search = searchOf("/page?state=open&record=2026-11-21%2Fq1", readQuarantineSearch);
  expect(search).toEqual({ state: "open", record: "2026-11-21/q1" });
});

test("what a reader refuses does not come back", () => {
  expect(searchOf("/page?filters=5&event=7&x=1", readExploreSearch)).toEqual({ last: "24h" });
  expect(searchOf("/page?state=ajar&record=&code=", readQuarantineSearch)).toEqual({});
});
