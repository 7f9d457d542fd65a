import type { ButtonHTMLAttributes } from "react";
import styles from "./Button.module.css";

type Kind = "primary" | "plain" | "quiet" | "danger";

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  kind?: Kind;
  /** Shows that something is under way, and cannot be pressed meanwhile. */
  busy?: boolean;
}

export function Button({ kind = "plain", busy = false, type = "button", className, disabled, ...rest }: Props) {
  return (
    <button
      type={type}
      className={buttonClass(kind, className)}
      disabled={disabled || busy}
      aria-busy={busy || undefined}
      {...rest}
    />
  );
}

/** For links that look like buttons. */
export function buttonClass(kind: Kind = "plain", more?: string): string {
  return [styles.button, styles[kind], more].filter(Boolean).join(" ");
}
