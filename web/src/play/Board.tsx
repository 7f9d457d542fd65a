import {
  type KeyboardEvent,
  type PointerEvent,
  useCallback,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import { Button } from "../design/Button.tsx";
import { useLanguage } from "../language/language.tsx";
import styles from "./Board.module.css";
import {
  click,
  type Direction,
  digitOf,
  type Field,
  type Game,
  isOver,
  layout,
  lifetime,
  MIN_FIELD,
  miss,
  NEW_GAME,
  neighbour,
  nextChangeAt,
  type Place,
  type Result,
  resultOf,
  SIDE,
  SQUARES,
  shownBy,
  visibleAt,
} from "./game.ts";

interface Props {
  seed: number;
  onEnd: (result: Result) => void;
  onLeave: () => void;
}

const ARROWS: Readonly<Record<string, Direction>> = {
  ArrowLeft: "left",
  ArrowRight: "right",
  ArrowUp: "up",
  ArrowDown: "down",
};

/** From the countdown to the last square. Above all else, so that nothing else takes keys or clicks. */
export function Board({ seed, onEnd, onLeave }: Props) {
  const { t } = useLanguage();
  const [begun, setBegun] = useState(false);
  const board = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const dialog = board.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  const onGo = useCallback(() => setBegun(true), []);
  return (
    <dialog
      ref={board}
      className={styles.board}
      aria-label={t.play.title}
      onCancel={(event) => {
        event.preventDefault();
        onLeave();
      }}
    >
      {begun ? <Squares seed={seed} onEnd={onEnd} onLeave={onLeave} /> : <Countdown onGo={onGo} />}
    </dialog>
  );
}

/** 3, 2, 1 for a second each, and GO for a little less. */
function Countdown({ onGo }: { onGo: () => void }) {
  const { t } = useLanguage();
  const [left, setLeft] = useState(3);
  useEffect(() => {
    const timer = setTimeout(() => (left === 0 ? onGo() : setLeft(left - 1)), left === 0 ? 700 : 1_000);
    return () => clearTimeout(timer);
  }, [left, onGo]);
  return (
    <p className={styles.countdown} role="status" aria-live="assertive">
      <span key={left}>{left === 0 ? t.play.go : left}</span>
    </p>
  );
}

function Squares({ seed, onEnd, onLeave }: Props) {
  const { t } = useLanguage();
  const field = useRef<HTMLDivElement>(null);
  const size = useSize(field);
  const [began] = useState(() => performance.now());
  const [game, setGame] = useState<Game>(NEW_GAME);
  const [now, setNow] = useState(0);
  const [byKeyboard, setByKeyboard] = useState(false);
  /** The square that the arrow keys go on from; the last place stays when a square is gone. */
  const [cursor, setCursor] = useState<{ n: number; place: Place } | null>(null);

  const fits = size !== null && size.width >= MIN_FIELD.width && size.height >= MIN_FIELD.height;
  const places = useMemo(() => (fits ? layout(seed, size) : []), [fits, seed, size]);
  const visible = visibleAt(game, now);
  const shown = shownBy(now);

  useEffect(() => {
    if (isOver(game, now)) {
      onEnd(resultOf(game, now));
      return;
    }
    const next = nextChangeAt(game, now);
    if (next === undefined) return;
    // A timer may fire a little early; a millisecond more is never too soon.
    const timer = setTimeout(() => setNow(performance.now() - began), Math.max(1, next - (performance.now() - began)));
    return () => clearTimeout(timer);
  }, [game, now, began, onEnd]);

  const hit = (n: number) => {
    const t = performance.now() - began;
    setGame((before) => click(before, n, t));
    setNow(t);
  };

  const onPointerDown = (event: PointerEvent) => {
    if (!event.isPrimary || event.button !== 0) return;
    setByKeyboard(false);
    const square = event.target instanceof Element ? event.target.closest("[data-square]") : null;
    if (square instanceof HTMLElement) hit(Number(square.dataset.square));
    else setGame(miss);
  };

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const direction = ARROWS[event.key];
    const picked = visible.find((n) => digitOf(n) === event.key);
    if (direction !== undefined) {
      const there = new Map(visible.flatMap((n) => (places[n - 1] ? [[n, places[n - 1] as Place]] : [])));
      const centre = { x: (size?.width ?? 0) / 2, y: (size?.height ?? 0) / 2 };
      const n = cursor === null ? visible[0] : (neighbour(there, cursor.place, direction) ?? undefined);
      const place = n === undefined ? undefined : places[n - 1];
      setCursor(n === undefined || place === undefined ? (cursor ?? { n: 0, place: centre }) : { n, place });
    } else if (picked !== undefined) {
      hit(picked);
    } else if ((event.key === "Enter" || event.key === " ") && cursor !== null && event.target === field.current) {
      if (visible.includes(cursor.n)) hit(cursor.n);
    } else {
      if (event.key === "Tab") setByKeyboard(true);
      return;
    }
    setByKeyboard(true);
    event.preventDefault();
  };

  // The keys work from the moment the first square is there, without a click into the field.
  useLayoutEffect(() => {
    field.current?.focus({ preventScroll: true });
  }, []);

  return (
    <>
      <div className={styles.head}>
        <p>
          <strong className="number">{game.clicks.size}</strong> {t.play.hits}
        </p>
        <p className="number">
          {shown} / {SQUARES}
        </p>
        <Button kind="quiet" onClick={onLeave}>
          {t.play.leave}
        </Button>
      </div>
      <div
        ref={field}
        className={styles.field}
        role="application"
        aria-label={t.play.field}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it takes the arrow keys and digits
        tabIndex={0}
        data-keyboard={byKeyboard || undefined}
        onPointerDown={onPointerDown}
        onKeyDown={onKeyDown}
      >
        {!fits && size !== null && <p className={styles.small}>{t.play.tooSmall}</p>}
        {visible.map((n) => {
          const place = places[n - 1];
          if (place === undefined) return null;
          return (
            <button
              key={n}
              type="button"
              className={styles.square}
              data-square={n}
              data-cursor={(byKeyboard && cursor?.n === n) || undefined}
              style={{
                translate: `${place.x}px ${place.y}px`,
                width: SIDE,
                height: SIDE,
                animationDuration: `${lifetime(n)}ms`,
              }}
              aria-label={t.play.square(n, digitOf(n))}
              onClick={(event) => {
                // A press by mouse or finger has counted already; this is Enter, the space bar or a screen reader.
                if (event.detail === 0) hit(n);
              }}
            >
              <span aria-hidden="true">{digitOf(n)}</span>
            </button>
          );
        })}
      </div>
    </>
  );
}

/** The size of an element as it is now. */
function useSize(element: { current: HTMLElement | null }): Field | null {
  const [size, setSize] = useState<Field | null>(null);
  useLayoutEffect(() => {
    const seen = element.current;
    if (seen === null) return;
    const measure = () => {
      const next = { width: seen.clientWidth, height: seen.clientHeight };
      setSize((before) => (before?.width === next.width && before.height === next.height ? before : next));
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(seen);
    return () => observer.disconnect();
  }, [element]);
  return size;
}
