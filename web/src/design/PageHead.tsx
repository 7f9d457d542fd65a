import type { ReactNode } from "react";
import styles from "./PageHead.module.css";

/** A page's name, its tabs or marks beside it, its controls at the far end. */
export function PageHead({ title, beside, children }: { title: string; beside?: ReactNode; children?: ReactNode }) {
  return (
    <header className={styles.head}>
      <div className={styles.name}>
        <h1>{title}</h1>
        {beside}
      </div>
      {children && <div className={styles.controls}>{children}</div>}
    </header>
  );
}
