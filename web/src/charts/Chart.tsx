import { useEffect, useMemo, useRef, useState } from "react";
import { Button } from "../design/Button.tsx";
import { Empty } from "../design/Notice.tsx";
import { ScrollBox } from "../design/ScrollBox.tsx";
import table from "../design/Table.module.css";
import { useLanguage } from "../language/language.tsx";
import { useShownTheme } from "../theme/theme.ts";
import styles from "./Chart.module.css";
import type { Canvas } from "./canvas.ts";
import { type ChartData, isEmpty, rowsOf } from "./data.ts";

interface Props {
  /** What it shows, for those who do not see it. */
  label: string;
  data: ChartData;
  value: (value: number) => string;
  height?: number;
  /** Said where all values are zero. */
  empty?: string;
  /** A moment was clicked. */
  onPick?: (at: number) => void;
}

const TOKENS = ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5", "--series-6"];

/** A chart, and the same as a table for those who want numbers or do not see. */
export function Chart({ label, data, value, height = 180, empty, onPick }: Props) {
  const { t } = useLanguage();
  const [asTable, setAsTable] = useState(false);
  if (isEmpty(data)) return <Empty>{empty ?? t.charts.empty}</Empty>;
  return (
    <figure className={styles.figure}>
      {asTable ? (
        <Numbers label={label} data={data} value={value} height={height} />
      ) : (
        <Drawing label={label} data={data} value={value} height={height} {...(onPick ? { onPick } : {})} />
      )}
      <Button kind="quiet" className={styles.toggle} aria-pressed={asTable} onClick={() => setAsTable(!asTable)}>
        {t.charts.asTable}
        <span className="visually-hidden">: {label}</span>
      </Button>
    </figure>
  );
}

function Drawing({ label, data, value, height, onPick }: Props) {
  const { formats } = useLanguage();
  const theme = useShownTheme();
  const box = useRef<HTMLDivElement>(null);
  const [canvas, setCanvas] = useState<Canvas | null>(null);
  const pick = useRef(onPick);
  useEffect(() => {
    pick.current = onPick;
  }, [onPick]);

  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    let made: Canvas | undefined;
    let gone = false;
    const observer = new ResizeObserver(() => made?.resize());
    void import("./canvas.ts").then(({ canvasIn }) => {
      if (gone) return;
      made = canvasIn(element, (at) => pick.current?.(at));
      setCanvas(made);
      observer.observe(element);
    });
    return () => {
      gone = true;
      observer.disconnect();
      made?.dispose();
      setCanvas(null);
    };
  }, []);

  // Live pages ask again and again, and mostly learn the same: only what differs is painted.
  const painted = useRef<unknown[]>([]);
  const shape = useMemo(() => JSON.stringify(data), [data]);
  useEffect(() => {
    if (canvas === null || box.current === null) return;
    const wanted = [canvas, shape, value, formats, theme];
    if (wanted.every((part, i) => part === painted.current[i])) return;
    painted.current = wanted;
    const colour = colourReader(box.current);
    canvas.show(data, {
      series: TOKENS.map(colour),
      ink: colour("--ink"),
      faint: colour("--ink-faint"),
      line: colour("--line"),
      bad: colour("--bad"),
      surface: colour("--surface"),
      font: getComputedStyle(box.current).fontFamily,
      value,
      moment: formats.moment,
    });
  }, [canvas, data, shape, value, formats, theme]);

  return <div ref={box} className={styles.canvas} style={{ height }} role="img" aria-label={label} />;
}

function Numbers({ label, data, value, height }: Props) {
  const { t, formats } = useLanguage();
  const { columns, rows } = rowsOf(data, formats.moment);
  return (
    <div className={styles.numbers} style={{ maxHeight: Math.max(height ?? 0, 180) }}>
      <ScrollBox label={label}>
        <table className={table.table}>
          <thead>
            <tr>
              <th>{data.kind === "time" ? t.charts.time : t.charts.name}</th>
              {columns.map((column) => (
                <th key={column} className={table.right}>
                  {column}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.head}>
                <td>{row.head}</td>
                {row.values.map((number, i) => (
                  <td key={columns[i]} className={table.right}>
                    {number === null ? "" : value(number)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </ScrollBox>
    </div>
  );
}

/** Tokens as a canvas takes them: `light-dark()` is resolved by the page. */
function colourReader(near: HTMLElement): (token: string) => string {
  return (token) => {
    const before = near.style.color;
    near.style.color = `var(${token})`;
    const colour = getComputedStyle(near).color;
    near.style.color = before;
    return colour;
  };
}
