import { Link, Outlet } from "@tanstack/react-router";
import { PageHead } from "../design/PageHead.tsx";
import tabs from "../design/Tabs.module.css";
import { useLanguage } from "../language/language.tsx";

const ROOMS = [
  { to: "/settings/keys", name: "keys" },
  { to: "/settings/members", name: "members" },
  { to: "/settings/quarantine", name: "quarantine" },
  { to: "/settings/dead-letters", name: "deadLetters" },
  { to: "/settings/outbox", name: "outbox" },
  { to: "/settings/first-event", name: "first" },
] as const;

export function SettingsFrame() {
  const { t } = useLanguage();
  return (
    <>
      <PageHead title={t.pages.settings} />
      <nav className={tabs.tabs} aria-label={t.pages.settings}>
        {ROOMS.map(({ to, name }) => (
          <Link key={to} to={to} className={tabs.tab} activeProps={{ className: tabs.current }}>
            {t.settings.rooms[name]}
          </Link>
        ))}
      </nav>
      <Outlet />
    </>
  );
}
