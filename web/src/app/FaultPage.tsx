import { Button } from "../design/Button.tsx";
import { useLanguage } from "../language/language.tsx";
import styles from "./PublicFrame.module.css";

/** In place of a page that failed; the frame around it stays. */
export function FaultPage() {
  const { t } = useLanguage();
  return (
    <div className={styles.lost} role="alert">
      <h1>{t.states.fault}</h1>
      <p>{t.states.unknownError}</p>
      <p>
        <Button onClick={() => window.location.reload()}>{t.states.reload}</Button>
      </p>
    </div>
  );
}
