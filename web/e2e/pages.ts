/** Every page, by a name for its picture. */
export const PAGES = [
  { name: "play", path: "/" },
  { name: "signin", path: "/signin" },
  { name: "monitor", path: "/monitor?last=7d" },
  { name: "explore", path: "/explore?last=7d" },
  {
    name: "sql",
    path: `/explore/sql?sql=${encodeURIComponent("SELECT type, count(*) AS events FROM web_event GROUP BY type UNION ALL SELECT type, count(*) FROM game_result GROUP BY type")}`,
  },
  { name: "live", path: "/explore/live" },
  { name: "keys", path: "/settings/keys" },
  { name: "members", path: "/settings/members" },
  { name: "channels", path: "/settings/channels" },
  { name: "quarantine", path: "/settings/quarantine" },
  { name: "dead-letters", path: "/settings/dead-letters" },
  { name: "outbox", path: "/settings/outbox" },
  { name: "retention", path: "/settings/retention" },
  { name: "first-event", path: "/settings/first-event" },
] as const;

export type PageName = (typeof PAGES)[number]["name"];
