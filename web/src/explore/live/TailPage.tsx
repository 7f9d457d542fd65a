import { useNavigate, useSearch } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";
import { EVERYWHERE, type Hit, search } from "../../api/search.ts";
import { Button } from "../../design/Button.tsx";
import { Empty, Failure } from "../../design/Notice.tsx";
import { PageHead } from "../../design/PageHead.tsx";
import { brief, pretty } from "../../format/json.ts";
import { useLanguage } from "../../language/language.tsx";
import type { TailSearch } from "../address.ts";
import { ExploreTabs } from "../ExploreTabs.tsx";
import { FilterBar } from "../FilterBar.tsx";
import styles from "./TailPage.module.css";
import { Tail } from "./tail.ts";

const EVERY_MS = 1_000;
/** Lines that are kept on the page. */
const MOST = 500;

export function TailPage() {
  const { t, formats } = useLanguage();
  const address = useSearch({ from: "/console/explore/live" });
  const navigate = useNavigate({ from: "/explore/live" });
  const [paused, setPaused] = useState(false);
  const { hits, held, error, again } = useTail(address, paused);

  return (
    <>
      <PageHead title={t.pages.explore} beside={<ExploreTabs carry={address} />}>
        <Button kind={paused ? "primary" : "plain"} aria-pressed={paused} onClick={() => setPaused(!paused)}>
          {paused ? t.explore.tail.resume(held) : t.explore.tail.pause}
        </Button>
      </PageHead>
      <FilterBar
        text={address.q ?? ""}
        filters={address.filters ?? []}
        onChange={(text, filters) => {
          void navigate({
            search: { ...(text === "" ? {} : { q: text }), ...(filters.length > 0 ? { filters } : {}) },
          });
        }}
      />
      {error !== null && <Failure error={error} onRetry={again} />}
      {hits.length === 0 && error === null && <Empty>{t.explore.tail.waiting}</Empty>}
      <ul className={styles.lines} aria-label={t.explore.modes.live}>
        {hits.map(({ _id, _source }) => (
          <li key={_id}>
            <details>
              <summary className={styles.line}>
                <time dateTime={_source.receivedtime ?? _source.time} className="number">
                  {formats.exact(new Date(_source.receivedtime ?? _source.time))}
                </time>
                <strong>{_source.type}</strong>
                <span>{_source.source}</span>
                <code>{brief(_source.data)}</code>
              </summary>
              <pre className={styles.raw}>{pretty(_source)}</pre>
            </details>
          </li>
        ))}
      </ul>
    </>
  );
}

interface Lines {
  shown: Hit[];
  /** What came while paused. */
  held: Hit[];
}

const NO_LINES: Lines = { shown: [], held: [] };

/** Asks again and again; while paused it goes on listening, and what comes is held back. */
function useTail({ q, filters }: TailSearch, paused: boolean) {
  const [lines, setLines] = useState(NO_LINES);
  const [error, setError] = useState<unknown>(null);
  const [round, setRound] = useState(0);
  const isPaused = useRef(paused);
  const asked = JSON.stringify({ q, filters });

  useEffect(() => {
    isPaused.current = paused;
    if (!paused) setLines(({ shown, held }) => ({ shown: [...held, ...shown].slice(0, MOST), held: [] }));
  }, [paused]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: `round` asks again at once
  useEffect(() => {
    const { q: text, filters: conditions } = JSON.parse(asked) as TailSearch;
    const tail = new Tail(text, conditions ?? []);
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const step = async () => {
      try {
        const found = await search(EVERYWHERE, tail.question(), stop.signal);
        const fresh = tail.take(found.hits.hits);
        setError(null);
        if (fresh.length > 0) {
          const target = isPaused.current ? "held" : "shown";
          setLines((before) => ({ ...before, [target]: [...fresh, ...before[target]].slice(0, MOST) }));
        }
      } catch (failed) {
        if (stop.signal.aborted) return;
        setError(failed);
      }
      timer = setTimeout(step, EVERY_MS);
    };
    setLines(NO_LINES);
    void step();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [asked, round]);

  return { hits: lines.shown, held: lines.held.length, error, again: () => setRound((n) => n + 1) };
}
