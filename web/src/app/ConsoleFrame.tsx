import { useQueryClient } from "@tanstack/react-query";
import { Link, Outlet, useRouter } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { Button } from "../design/Button.tsx";
import { useLanguage } from "../language/language.tsx";
import { usePush } from "../live/usePush.ts";
import { sessionQuery, signOut, useSession } from "../session/session.ts";
import { Brand } from "./Brand.tsx";
import styles from "./ConsoleFrame.module.css";
import { Preferences } from "./Preferences.tsx";

const PAGES = [
  { to: "/", name: "play", icon: "M7 5v14l11-7z" },
  { to: "/monitor", name: "monitor", icon: "M4 19V5M4 19h16M8 15l4-5 3 3 5-7" },
  { to: "/explore", name: "explore", icon: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.5 21 21" },
  {
    to: "/settings",
    name: "settings",
    icon: "M4 7h10M18 7h2M4 17h2M10 17h10M16 5v4M8 15v4",
  },
] as const;

/** Around the pages for members: where one is, where one can go, and who one is. */
export function ConsoleFrame() {
  const { t } = useLanguage();
  const client = useQueryClient();
  const session = useSession();
  const router = useRouter();
  const hasAnswer = client.getQueryState(sessionQuery.queryKey)?.status === "success";
  const [failed, setFailed] = useState(false);
  usePush();

  // The session ended while the page was open: the route looks again who this is, and leads to the sign-in.
  const hasEnded = hasAnswer && session === null;
  useEffect(() => {
    if (hasEnded) void router.invalidate();
  }, [hasEnded, router]);

  const leave = async () => {
    setFailed(false);
    try {
      await signOut();
      client.removeQueries({ predicate: ({ queryKey }) => queryKey[0] !== sessionQuery.queryKey[0] });
      await client.invalidateQueries({ queryKey: sessionQuery.queryKey });
    } catch {
      setFailed(true);
    }
  };

  return (
    <div className={styles.frame}>
      <a href="#content" className={styles.skip}>
        {t.pages.skip}
      </a>
      <header className={styles.side}>
        <Brand />
        <nav className={styles.pages} aria-label={t.pages.label}>
          {PAGES.map(({ to, name, icon }) => (
            <Link
              key={to}
              to={to}
              className={styles.page}
              activeProps={{ className: styles.current }}
              activeOptions={{ exact: to === "/" }}
            >
              <svg viewBox="0 0 24 24" aria-hidden="true">
                <path d={icon} />
              </svg>
              {t.pages[name]}
            </Link>
          ))}
        </nav>
        <div className={styles.foot}>
          <Preferences />
          <div className={styles.who}>
            <span className={styles.name}>
              {session?.kind === "member" ? (
                <bdi>{session.member.name}</bdi>
              ) : session?.kind === "key" ? (
                t.pages.byKey
              ) : (
                ""
              )}
            </span>
            <Button kind="quiet" onClick={leave}>
              {failed ? t.states.retry : t.pages.signOut}
            </Button>
          </div>
        </div>
      </header>
      <main id="content" className={styles.content} tabIndex={-1}>
        <Outlet />
      </main>
    </div>
  );
}
