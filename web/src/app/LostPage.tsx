import { Link } from "@tanstack/react-router";
import { useLanguage } from "../language/language.tsx";
import styles from "./PublicFrame.module.css";

export function LostPage() {
  const { t } = useLanguage();
  return (
    <main className={styles.lost}>
      <h1>{t.states.lost}</h1>
      <p>
        <Link to="/">{t.pages.play}</Link>
      </p>
    </main>
  );
}
