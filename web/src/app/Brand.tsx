import { Link } from "@tanstack/react-router";
import styles from "./Brand.module.css";

export function Brand() {
  return (
    <Link to="/" className={styles.brand}>
      <svg viewBox="0 0 32 32" className={styles.mark} aria-hidden="true">
        <rect width="32" height="32" rx="7" className={styles.ground} />
        <path d="M6 11h8v4h4v-4h8M6 21h8v-4h4v4h8" className={styles.lines} />
      </svg>
      Sluice
    </Link>
  );
}
