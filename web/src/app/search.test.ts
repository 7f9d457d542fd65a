import { createMemoryHistory, createRootRoute, createRoute, createRouter } from "@tanstack/react-router";
import { expect, test } from "vitest";
import { readExploreSearch } from "../explore/address.ts";
import { readQuarantineSearch } from "../settings/quarantine/address.ts";
import { only } from "./search.ts";

async function searchOf(href: string, read: (search: Record<string, unknown>) => object): Promise<object> {
  const root = createRootRoute();
  const page = createRoute({ getParentRoute: () => root, path: "/page", validateSearch: only(read) });
  const history = createMemoryHistory({ initialEntries: [href] });
  const router = createRouter({ routeTree: root.addChildren([page]), history });
  await router.load();
  // An address that is put right is loaded again.
  await router.load();
  return JSON.parse(JSON.stringify(router.state.matches.at(-1)?.search));
}

test("a page is given what it reads", async () => {
  const search = await searchOf("/page?state=open&record=2026-11-21%2Fq1", readQuarantineSearch);
  expect(search).toEqual({ state: "open", record: "2026-11-21/q1" });
});

test("what a reader refuses does not come back", async () => {
  expect(await searchOf("/page?filters=5&event=7&x=1", readExploreSearch)).toEqual({ last: "24h" });
  expect(await searchOf("/page?state=ajar&record=&code=", readQuarantineSearch)).toEqual({});
});
