import { Link, Navigate, Outlet, useRouterState } from "@tanstack/react-router";
import { PageHead } from "../design/PageHead.tsx";
import tabs from "../design/Tabs.module.css";
import { useLanguage } from "../language/language.tsx";
import { useSession } from "../session/session.ts";
import { roomsFor } from "./rooms.ts";

export function SettingsFrame() {
  const { t } = useLanguage();
  const path = useRouterState({ select: (state) => state.location.pathname });
  const rooms = roomsFor(useSession());
  const [first] = rooms;
  // At the door, or in a room of somebody else. On the way out the address is another page's already.
  if (first && path.startsWith("/settings") && !rooms.some((room) => path.startsWith(room.to)))
    return <Navigate to={first.to} replace />;
  return (
    <>
      <PageHead title={t.pages.settings} />
      <nav className={tabs.tabs} aria-label={t.pages.settings}>
        {rooms.map(({ to, name }) => (
          <Link key={to} to={to} className={tabs.tab} activeProps={{ className: tabs.current }}>
            {t.settings.rooms[name]}
          </Link>
        ))}
      </nav>
      <Outlet />
    </>
  );
}
