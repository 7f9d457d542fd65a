import { useLanguage } from "../language/language.tsx";
import styles from "./Moment.module.css";

interface Props {
  /** RFC 3339. */
  at: string;
  /** With milliseconds. */
  exact?: boolean;
}

/** A day and a time, in one line. */
export function Moment({ at, exact = false }: Props) {
  const { formats } = useLanguage();
  return (
    <time dateTime={at} className={styles.moment}>
      {(exact ? formats.exact : formats.moment)(new Date(at))}
    </time>
  );
}
