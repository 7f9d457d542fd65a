import { Link } from "@tanstack/react-router";
import tabs from "../design/Tabs.module.css";
import { useLanguage } from "../language/language.tsx";
import type { TailSearch } from "./address.ts";

/** Events, SQL, live. What is looked for goes along. */
export function ExploreTabs({ carry = {} }: { carry?: TailSearch }) {
  const { t } = useLanguage();
  const active = { activeProps: { className: tabs.current }, activeOptions: { exact: true, includeSearch: false } };
  return (
    <nav className={tabs.tabs} aria-label={t.pages.explore}>
      <Link to="/explore" search={carry} className={tabs.tab} {...active}>
        {t.explore.modes.events}
      </Link>
      <Link to="/explore/sql" className={tabs.tab} {...active}>
        {t.explore.modes.sql}
      </Link>
      <Link to="/explore/live" search={carry} className={tabs.tab} {...active}>
        {t.explore.modes.live}
      </Link>
    </nav>
  );
}
