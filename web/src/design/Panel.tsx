import { type ReactNode, useId } from "react";
import styles from "./Panel.module.css";

interface Props {
  title: string;
  /** Stands beside the title, at the far end. */
  actions?: ReactNode;
  note?: ReactNode;
  className?: string | undefined;
  children: ReactNode;
}

/** A part of a page with its own title. */
export function Panel({ title, actions, note, className, children }: Props) {
  const id = useId();
  return (
    <section className={[styles.panel, className].filter(Boolean).join(" ")} aria-labelledby={id}>
      <header className={styles.head}>
        <h2 id={id}>{title}</h2>
        {actions && <div className={styles.actions}>{actions}</div>}
      </header>
      {note && <p className={styles.note}>{note}</p>}
      {children}
    </section>
  );
}
