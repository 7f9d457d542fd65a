import { Notice } from "../design/Notice.tsx";
import { useLanguage } from "../language/language.tsx";
import { useOutgoing } from "./useOutgoing.ts";

/** Says so when plays wait to be sent, or were refused; says nothing when all is well. */
export function SendingNote() {
  const { t } = useLanguage();
  const { waiting, held, refused, lost } = useOutgoing();
  if (held && waiting > 0) {
    return (
      <div role="status">
        <Notice tone="warn">{t.play.waiting(waiting)}</Notice>
      </div>
    );
  }
  if (lost > 0) {
    return (
      <div role="status">
        <Notice tone="bad">{t.play.lost}</Notice>
      </div>
    );
  }
  if (refused !== null) {
    return (
      <div role="status">
        <Notice tone="bad">{t.play.refused(refused)}</Notice>
      </div>
    );
  }
  return null;
}
