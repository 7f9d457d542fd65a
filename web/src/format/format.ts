/** Numbers and times as a reader of this language expects them; times are those of the reader's own clock. */
export interface Formats {
  /** 12,345 */
  count: (value: number) => string;
  /** 12.3K */
  short: (value: number) => string;
  /** Up to two digits behind the point. */
  decimal: (value: number) => string;
  /** 93.3 for a value of 0–100. */
  percent: (value: number) => string;
  bytes: (value: number) => string;
  /** 850 ms, 4.2 s, 3 min, 2 h */
  duration: (ms: number) => string;
  /** Hours, minutes, seconds. */
  clock: (at: Date) => string;
  /** Day and clock. */
  moment: (at: Date) => string;
  /** Day and clock with milliseconds. */
  exact: (at: Date) => string;
  day: (at: Date) => string;
}

export function formatsFor(language: string): Formats {
  const number = (options: Intl.NumberFormatOptions) => {
    const format = new Intl.NumberFormat(language, options);
    return (value: number) => format.format(value);
  };
  const time = (options: Intl.DateTimeFormatOptions) => {
    const format = new Intl.DateTimeFormat(language, { hourCycle: "h23", ...options });
    return (at: Date) => (Number.isNaN(at.getTime()) ? "" : format.format(at));
  };
  const unit = (name: string, digits: number) =>
    number({ style: "unit", unit: name, unitDisplay: "short", maximumFractionDigits: digits });
  const [ms, s, min, h, d] = [
    unit("millisecond", 0),
    unit("second", 1),
    unit("minute", 1),
    unit("hour", 1),
    unit("day", 1),
  ];
  const sizes = (["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"] as const).map((name, i) =>
    unit(name, i === 0 ? 0 : 1),
  );
  const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit" } as const;
  const day = { year: "numeric", month: "2-digit", day: "2-digit" } as const;
  return {
    count: number({ maximumFractionDigits: 0 }),
    short: number({ notation: "compact", maximumFractionDigits: 1 }),
    decimal: number({ maximumFractionDigits: 2 }),
    percent: number({ maximumFractionDigits: 1 }),
    bytes: (value) => {
      let step = 0;
      let rest = value;
      while (rest >= 1000 && step < sizes.length - 1) {
        rest /= 1000;
        step += 1;
      }
      return sizes[step]?.(rest) ?? String(value);
    },
    duration: (value) => {
      if (value < 1_000) return ms(value);
      if (value < 60_000) return s(value / 1_000);
      if (value < 3_600_000) return min(value / 60_000);
      if (value < 86_400_000) return h(value / 3_600_000);
      return d(value / 86_400_000);
    },
    clock: time(clock),
    moment: time({ ...day, ...clock }),
    exact: time({ ...day, ...clock, fractionalSecondDigits: 3 }),
    day: time(day),
  };
}
