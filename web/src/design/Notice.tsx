import type { ReactNode } from "react";
import { ApiError } from "../api/client.ts";
import { useLanguage } from "../language/language.tsx";
import { Button } from "./Button.tsx";
import styles from "./Notice.module.css";

export type Tone = "neutral" | "good" | "warn" | "bad";

/** A word or two with a colour; the word says it, the colour helps. */
export function Badge({ tone = "neutral", children }: { tone?: Tone; children: ReactNode }) {
  return <span className={`${styles.badge} ${styles[tone]}`}>{children}</span>;
}

export function Notice({ tone = "neutral", children }: { tone?: Tone; children: ReactNode }) {
  return <div className={`${styles.notice} ${styles[tone]}`}>{children}</div>;
}

export function Loading() {
  const { t } = useLanguage();
  return (
    <p className={styles.quiet} role="status">
      {t.states.loading}
    </p>
  );
}

export function Empty({ children }: { children: ReactNode }) {
  return <div className={styles.quiet}>{children}</div>;
}

/** What went wrong, in the server's own safe sentence where it gave one, and a way to try again. */
export function Failure({ error, onRetry }: { error: unknown; onRetry?: (() => void) | undefined }) {
  const { t } = useLanguage();
  return (
    <div className={`${styles.notice} ${styles.bad}`} role="alert">
      <span>{useSentence(error)}</span>
      {onRetry && <Button onClick={onRetry}>{t.states.retry}</Button>}
    </div>
  );
}

/** What a person is told about an error. */
export function useSentence(error: unknown): string {
  const { t } = useLanguage();
  if (!(error instanceof ApiError)) return t.states.unknownError;
  if (error.isUnreachable) return t.states.unreachable;
  if (error.code === "not_found" || error.status === 404) return `${t.states.notThere} (${error.message})`;
  if (error.status === 401) return t.states.signedOut;
  if (error.status === 403) return `${t.states.notAllowed} (${error.message})`;
  return error.message;
}
