import type { ReactNode } from "react";
import { Button } from "../design/Button.tsx";
import { CopyButton } from "../design/CopyButton.tsx";
import { Failure, Notice } from "../design/Notice.tsx";
import { useLanguage } from "../language/language.tsx";
import styles from "./Room.module.css";

interface Props {
  submit: string;
  /** What the last try came to. */
  tried: { isPending: boolean; error: unknown };
  disabled?: boolean;
  onSubmit: () => void;
  /** Beside the button. */
  said?: ReactNode;
  children: ReactNode;
}

/** Fields beside each other, what was wrong with them, and one button that sends them. */
export function RoomForm({ submit, tried, disabled, onSubmit, said, children }: Props) {
  return (
    <form
      className={styles.form}
      onSubmit={(event) => {
        event.preventDefault();
        onSubmit();
      }}
    >
      {children}
      {tried.error !== null && (
        <div className={styles.wide}>
          <Failure error={tried.error} />
        </div>
      )}
      <div className={`${styles.wide} ${styles.actions}`}>
        <Button type="submit" kind="primary" busy={tried.isPending} disabled={disabled}>
          {submit}
        </Button>
        {said}
      </div>
    </form>
  );
}

/** Something that the server tells this once: it stays until somebody says that it is kept. */
export function ShownOnce({ note, secret, onKept }: { note: string; secret: string; onKept: () => void }) {
  const { t } = useLanguage();
  return (
    <div className={styles.list} role="status">
      <Notice tone="good">{note}</Notice>
      <code className={styles.secret}>{secret}</code>
      <div className={styles.actions}>
        <CopyButton text={secret} />
        <Button onClick={onKept}>{t.settings.kept}</Button>
      </div>
    </div>
  );
}
