import { Button } from "../design/Button.tsx";
import { Notice, useSentence } from "../design/Notice.tsx";
import { useLanguage } from "../language/language.tsx";
import styles from "./FreshnessMark.module.css";
import type { Freshness } from "./live.ts";

/** Whether what the page shows is of now. A lost connection is a band across the page, not a colour in a corner. */
export function FreshnessMark({ freshness, onRetry }: { freshness: Freshness; onRetry: () => void }) {
  const { t, formats } = useLanguage();
  if (freshness.state === "stale") return <Stale freshness={freshness} onRetry={onRetry} />;
  return (
    <p className={styles.mark}>
      <span className={styles.dot} data-state={freshness.state} aria-hidden="true" />
      {freshness.state === "waiting" ? t.live.waiting : t.live.live(formats.clock(new Date(freshness.at)))}
    </p>
  );
}

function Stale({ freshness, onRetry }: { freshness: Extract<Freshness, { state: "stale" }>; onRetry: () => void }) {
  const { t, formats } = useLanguage();
  const why = useSentence(freshness.error);
  return (
    <div className={styles.stale} role="alert">
      <Notice tone="warn">
        <span>
          <strong>{t.live.lost}</strong>{" "}
          {freshness.since !== null && t.live.since(formats.clock(new Date(freshness.since)))} {why}
        </span>
        <Button onClick={onRetry}>{t.states.retry}</Button>
      </Notice>
    </div>
  );
}
