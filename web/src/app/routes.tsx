import type { QueryClient } from "@tanstack/react-query";
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  redirect,
} from "@tanstack/react-router";
import { readExploreSearch, readSqlSearch, readTailSearch } from "../explore/address.ts";
import { readMonitorSearch } from "../monitor/address.ts";
import { PlayPage } from "../play/PlayPage.tsx";
import { sessionQuery } from "../session/session.ts";
import { readQuarantineSearch } from "../settings/quarantine/address.ts";
import { readSignInSearch } from "../signin/address.ts";
import { FaultPage } from "./FaultPage.tsx";
import { LostPage } from "./LostPage.tsx";
import { PublicFrame } from "./PublicFrame.tsx";
import { RootFrame } from "./RootFrame.tsx";
import { only } from "./search.ts";

interface Context {
  client: QueryClient;
}

const root = createRootRouteWithContext<Context>()({
  component: RootFrame,
  notFoundComponent: LostPage,
});

/** Pages for everybody. The game is part of the first load; all else is fetched when it is opened. */
const open = createRoute({ getParentRoute: () => root, id: "open", component: PublicFrame });

const play = createRoute({
  getParentRoute: () => open,
  path: "/",
  component: PlayPage,
});

const signIn = createRoute({
  getParentRoute: () => open,
  path: "/signin",
  validateSearch: only(readSignInSearch),
  component: lazyRouteComponent(() => import("../signin/SignInPage.tsx"), "SignInPage"),
});

/** Pages for members. */
const console = createRoute({
  getParentRoute: () => root,
  id: "console",
  component: lazyRouteComponent(() => import("./ConsoleFrame.tsx"), "ConsoleFrame"),
  beforeLoad: async ({ context, location }) => {
    // Where the server does not answer, the pages say so themselves.
    const session = await context.client.fetchQuery(sessionQuery).catch(() => undefined);
    if (session === null) throw redirect({ to: "/signin", search: { next: location.href } });
  },
});

const monitor = createRoute({
  getParentRoute: () => console,
  path: "/monitor",
  validateSearch: only(readMonitorSearch),
  component: lazyRouteComponent(() => import("../monitor/MonitorPage.tsx"), "MonitorPage"),
});

const explore = createRoute({
  getParentRoute: () => console,
  path: "/explore",
  validateSearch: only(readExploreSearch),
  component: lazyRouteComponent(() => import("../explore/events/EventsPage.tsx"), "EventsPage"),
});

const sql = createRoute({
  getParentRoute: () => console,
  path: "/explore/sql",
  validateSearch: only(readSqlSearch),
  component: lazyRouteComponent(() => import("../explore/sql/SqlPage.tsx"), "SqlPage"),
});

const tail = createRoute({
  getParentRoute: () => console,
  path: "/explore/live",
  validateSearch: only(readTailSearch),
  component: lazyRouteComponent(() => import("../explore/live/TailPage.tsx"), "TailPage"),
});

const settings = createRoute({
  getParentRoute: () => console,
  path: "/settings",
  component: lazyRouteComponent(() => import("../settings/SettingsFrame.tsx"), "SettingsFrame"),
});

const keys = createRoute({
  getParentRoute: () => settings,
  path: "/keys",
  component: lazyRouteComponent(() => import("../settings/keys/KeysPage.tsx"), "KeysPage"),
});

const members = createRoute({
  getParentRoute: () => settings,
  path: "/members",
  component: lazyRouteComponent(() => import("../settings/members/MembersPage.tsx"), "MembersPage"),
});

const channels = createRoute({
  getParentRoute: () => settings,
  path: "/channels",
  component: lazyRouteComponent(() => import("../settings/channels/ChannelsPage.tsx"), "ChannelsPage"),
});

const retention = createRoute({
  getParentRoute: () => settings,
  path: "/retention",
  component: lazyRouteComponent(() => import("../settings/retention/RetentionPage.tsx"), "RetentionPage"),
});

const outbox = createRoute({
  getParentRoute: () => settings,
  path: "/outbox",
  component: lazyRouteComponent(() => import("../settings/outbox/OutboxPage.tsx"), "OutboxPage"),
});

const quarantine = createRoute({
  getParentRoute: () => settings,
  path: "/quarantine",
  validateSearch: only(readQuarantineSearch),
  component: lazyRouteComponent(() => import("../settings/quarantine/QuarantinePage.tsx"), "QuarantinePage"),
});

const deadLetters = createRoute({
  getParentRoute: () => settings,
  path: "/dead-letters",
  component: lazyRouteComponent(() => import("../settings/dead-letters/DeadLettersPage.tsx"), "DeadLettersPage"),
});

const firstEvent = createRoute({
  getParentRoute: () => settings,
  path: "/first-event",
  component: lazyRouteComponent(() => import("../settings/first-event/FirstEventPage.tsx"), "FirstEventPage"),
});

const account = createRoute({
  getParentRoute: () => settings,
  path: "/account",
  component: lazyRouteComponent(() => import("../settings/account/AccountPage.tsx"), "AccountPage"),
});

const tree = root.addChildren([
  open.addChildren([play, signIn]),
  console.addChildren([
    monitor,
    explore,
    sql,
    tail,
    settings.addChildren([keys, members, channels, quarantine, deadLetters, outbox, retention, firstEvent, account]),
  ]),
]);

export function makeRouter(client: QueryClient) {
  const router = createRouter({
    routeTree: tree,
    context: { client },
    scrollRestoration: true,
    defaultErrorComponent: FaultPage,
  });
  // The page that was asked for is fetched while the server says who asks, and not after it.
  // Where it cannot be had, the page says so when it is shown.
  for (const route of router.getMatchedRoutes(router.latestLocation.pathname)[0])
    void router.loadRouteChunk(route)?.catch(() => undefined);
  return router;
}
