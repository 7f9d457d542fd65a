import { Button } from "../design/Button.tsx";
import { Notice, useSentence } from "../design/Notice.tsx";
import { useLanguage } from "../language/language.tsx";
import styles from "./FreshnessMark.module.css";
import type { Freshness } from "./live.ts";
import { usePushState } from "./usePush.ts";

/** Whether what the page shows is of now, and whether the server tells it or has to be asked, beside the title. */
export function FreshnessMark({ freshness }: { freshness: Freshness }) {
  const { t, formats } = useLanguage();
  const push = usePushState();
  let word = freshness.state === "waiting" ? t.live.waiting : t.live.lost;
  if (freshness.state === "live") word = t.live.live(formats.clock(new Date(freshness.at)));
  return (
    <p className={styles.mark}>
      <span className={styles.dot} data-state={freshness.state} aria-hidden="true" />
      {word}
      {freshness.state === "live" && (
        <span className={styles.how} data-push={push}>
          {push === "open" ? t.live.pushed : push === "lost" ? t.live.pushLost : t.live.polled}
        </span>
      )}
    </p>
  );
}

/** A lost connection is a band across the page, not a colour in a corner. */
export function LostBand({ freshness, onRetry }: { freshness: Freshness; onRetry: () => void }) {
  return freshness.state === "stale" ? <Lost freshness={freshness} onRetry={onRetry} /> : null;
}

function Lost({ freshness, onRetry }: { freshness: Extract<Freshness, { state: "stale" }>; onRetry: () => void }) {
  const { t, formats } = useLanguage();
  const why = useSentence(freshness.error);
  return (
    <div className={styles.lost} role="alert">
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
