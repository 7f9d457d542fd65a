import { useCallback, useEffect, useState } from "react";
import { Button } from "../design/Button.tsx";
import { TextField } from "../design/Field.tsx";
import { useLanguage } from "../language/language.tsx";
import { keepForOffline } from "../offline/register.ts";
import { Board } from "./Board.tsx";
import { type Best, isBetter, keepBest, readBest } from "./best.ts";
import type { Result } from "./game.ts";
import { cleanNickname, keepNickname, NICKNAME_LENGTH, nickname as storedNickname } from "./identity.ts";
import styles from "./PlayPage.module.css";
import { RankingPanel } from "./RankingPanel.tsx";
import { recordResult, recordStart } from "./record.ts";
import { SendingNote } from "./SendingNote.tsx";

type Phase =
  | { name: "ready" }
  | { name: "playing"; play: string; seed: number }
  | { name: "done"; result: Result; isBest: boolean };

/** Squares on their way out. */
const MOTIF = [1, 0.75, 0.55, 0.38, 0.24, 0.12];

export function PlayPage() {
  const { t, formats } = useLanguage();
  const [phase, setPhase] = useState<Phase>({ name: "ready" });
  const [nickname, setNickname] = useState(storedNickname);
  const [best, setBest] = useState<Best | null>(readBest);

  useEffect(keepForOffline, []);

  const start = () => {
    keepNickname(nickname);
    setPhase({ name: "playing", play: recordStart(), seed: seedOf(window.location.search) });
  };

  const play = phase.name === "playing" ? phase.play : "";
  const onEnd = useCallback(
    (result: Result) => {
      recordResult(play, result, cleanNickname(storedNickname()));
      const before = readBest();
      const isBest = isBetter(result.success_rate, before);
      if (isBest) {
        const now = { clicked: result.clicked_count, rate: result.success_rate, at: new Date().toISOString() };
        keepBest(now);
        setBest(now);
      }
      setPhase({ name: "done", result, isBest });
    },
    [play],
  );
  const onLeave = useCallback(() => setPhase({ name: "ready" }), []);

  if (phase.name === "playing") return <Board key={phase.play} seed={phase.seed} onEnd={onEnd} onLeave={onLeave} />;
  return (
    <div className={styles.page}>
      <div className={styles.lead}>
        {phase.name === "done" ? (
          <Outcome result={phase.result} isBest={phase.isBest} />
        ) : (
          <>
            <div className={styles.motif} aria-hidden="true">
              {MOTIF.map((opacity) => (
                <span key={opacity} style={{ opacity }} />
              ))}
            </div>
            <h1 className={styles.title}>{t.play.title}</h1>
            <p className={styles.rules}>{t.play.rules}</p>
          </>
        )}
        <form
          className={styles.start}
          onSubmit={(event) => {
            event.preventDefault();
            start();
          }}
        >
          <TextField
            label={t.play.nickname}
            hint={t.play.nicknameHint}
            value={nickname}
            maxLength={NICKNAME_LENGTH}
            autoComplete="nickname"
            onChange={setNickname}
          />
          <Button type="submit" kind="primary" className={styles.go} autoFocus={phase.name === "done"}>
            {phase.name === "done" ? t.play.again : t.play.start}
          </Button>
        </form>
        <SendingNote />
        {best !== null && (
          <p className={styles.best}>
            {t.play.best(formats.percent(best.rate), best.clicked)}{" "}
            <time dateTime={best.at}>{formats.day(new Date(best.at))}</time>
          </p>
        )}
        <details className={styles.keys}>
          <summary>{t.play.keyboard}</summary>
          <ul>
            <li>{t.play.keyboardDigits}</li>
            <li>{t.play.keyboardArrows}</li>
            <li>{t.play.keyboardLeave}</li>
          </ul>
        </details>
      </div>
      <RankingPanel />
    </div>
  );
}

function Outcome({ result, isBest }: { result: Result; isBest: boolean }) {
  const { t, formats } = useLanguage();
  const mean = result.reaction_ms.reduce((sum, ms) => sum + ms, 0) / Math.max(1, result.reaction_ms.length);
  return (
    <div role="status" className={styles.outcome}>
      <h1 className={styles.rate}>
        {formats.percent(result.success_rate)}
        <small>%</small>
      </h1>
      <p>{isBest ? t.play.newBest : t.play.over}</p>
      <dl className={styles.figures}>
        <div>
          <dt>{t.play.hits}</dt>
          <dd>
            {result.clicked_count} / {result.total_squares}
          </dd>
        </div>
        <div>
          <dt>{t.play.missed}</dt>
          <dd>{result.missed_clicks}</dd>
        </div>
        <div>
          <dt>{t.play.reaction}</dt>
          <dd>{result.clicked_count === 0 ? "–" : formats.duration(Math.round(mean))}</dd>
        </div>
      </dl>
    </div>
  );
}

/** `?seed=7` gives the same places in each game, for tests and for two who want to compare. */
function seedOf(search: string): number {
  const asked = Number(new URLSearchParams(search).get("seed") ?? Number.NaN);
  return Number.isSafeInteger(asked) ? asked : (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0);
}
