import { type InputHTMLAttributes, type ReactNode, type SelectHTMLAttributes, useId } from "react";
import styles from "./Field.module.css";

interface Labelled {
  label: string;
  /** The label is read out and not shown. */
  labelHidden?: boolean;
  hint?: ReactNode;
}

interface TextFieldProps extends Labelled, Omit<InputHTMLAttributes<HTMLInputElement>, "onChange" | "className"> {
  onChange: (value: string) => void;
}

export function TextField({ label, labelHidden, hint, onChange, ...rest }: TextFieldProps) {
  const id = useId();
  return (
    <Frame id={id} label={label} labelHidden={labelHidden} hint={hint}>
      <input
        {...rest}
        id={id}
        className={styles.input}
        aria-describedby={hint ? `${id}-hint` : undefined}
        onChange={(event) => onChange(event.target.value)}
      />
    </Frame>
  );
}

interface SelectFieldProps<V extends string>
  extends Labelled,
    Omit<SelectHTMLAttributes<HTMLSelectElement>, "onChange" | "className" | "value"> {
  value: V;
  options: readonly { value: V; label: string }[];
  onChange: (value: V) => void;
}

export function SelectField<V extends string>(props: SelectFieldProps<V>) {
  const { label, labelHidden, hint, value, options, onChange, ...rest } = props;
  const id = useId();
  return (
    <Frame id={id} label={label} labelHidden={labelHidden} hint={hint}>
      <select
        {...rest}
        id={id}
        className={styles.input}
        value={value}
        aria-describedby={hint ? `${id}-hint` : undefined}
        onChange={(event) => {
          const chosen = options.find((option) => option.value === event.target.value);
          if (chosen) onChange(chosen.value);
        }}
      >
        {options.map((option) => (
          <option key={option.value} value={option.value}>
            {option.label}
          </option>
        ))}
      </select>
    </Frame>
  );
}

interface FrameProps {
  id: string;
  label: string;
  labelHidden: boolean | undefined;
  hint: ReactNode;
  children: ReactNode;
}

function Frame({ id, label, labelHidden, hint, children }: FrameProps) {
  return (
    <div className={styles.field}>
      <label htmlFor={id} className={labelHidden ? "visually-hidden" : styles.label}>
        {label}
      </label>
      {children}
      {hint && (
        <p id={`${id}-hint`} className={styles.hint}>
          {hint}
        </p>
      )}
    </div>
  );
}
