import { Link, Outlet } from "@tanstack/react-router";
import { buttonClass } from "../design/Button.tsx";
import { useLanguage } from "../language/language.tsx";
import { Brand } from "./Brand.tsx";
import { Preferences } from "./Preferences.tsx";
import styles from "./PublicFrame.module.css";

/** Around the pages that need no sign-in. */
export function PublicFrame() {
  const { t } = useLanguage();
  return (
    <div className={styles.frame}>
      <header className={styles.head}>
        <Brand />
        <div className={styles.right}>
          <Preferences />
          <Link to="/monitor" className={buttonClass("quiet")}>
            {t.pages.console}
          </Link>
        </div>
      </header>
      <main className={styles.main}>
        <Outlet />
      </main>
    </div>
  );
}
