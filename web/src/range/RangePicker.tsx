import { useState } from "react";
import { Button } from "../design/Button.tsx";
import { SelectField, TextField } from "../design/Field.tsx";
import { useLanguage } from "../language/language.tsx";
import styles from "./RangePicker.module.css";
import { LASTS, spanOf, type TimeRange } from "./range.ts";

interface Props {
  range: TimeRange;
  onChange: (range: TimeRange) => void;
}

export function RangePicker({ range, onChange }: Props) {
  const { t } = useLanguage();
  const value = "last" in range ? range.last : "own";
  const options = [...LASTS, "own" as const].map((name) => ({ value: name, label: t.range.lasts[name] }));
  return (
    <div className={styles.picker}>
      <SelectField
        label={t.range.label}
        labelHidden
        value={value}
        options={options}
        onChange={(chosen) => {
          if (chosen !== "own") onChange({ last: chosen });
          else {
            const span = spanOf("last" in range && range.last === "all" ? { last: "30d" } : range, Date.now());
            onChange({ from: new Date(span.from ?? span.to).toISOString(), to: new Date(span.to).toISOString() });
          }
        }}
      />
      {"from" in range && <Moments key={`${range.from}${range.to}`} range={range} onChange={onChange} />}
    </div>
  );
}

function Moments({ range, onChange }: { range: { from: string; to: string }; onChange: (range: TimeRange) => void }) {
  const { t } = useLanguage();
  const [from, setFrom] = useState(() => localText(range.from));
  const [to, setTo] = useState(() => localText(range.to));
  const isGood = Date.parse(from) < Date.parse(to);
  return (
    <form
      className={styles.moments}
      onSubmit={(event) => {
        event.preventDefault();
        if (isGood) onChange({ from: new Date(from).toISOString(), to: new Date(to).toISOString() });
      }}
    >
      <TextField label={t.range.from} labelHidden type="datetime-local" step={1} value={from} onChange={setFrom} />
      <span aria-hidden="true">–</span>
      <TextField label={t.range.to} labelHidden type="datetime-local" step={1} value={to} onChange={setTo} />
      <Button type="submit" disabled={!isGood}>
        {t.range.apply}
      </Button>
    </form>
  );
}

/** A moment as an input of local date and time takes it. */
function localText(moment: string): string {
  const at = new Date(moment);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
