import { useState } from "react";
import { useLanguage } from "../language/language.tsx";
import { Button } from "./Button.tsx";

/** Puts text into the clipboard and says whether that worked. */
export function CopyButton({ text }: { text: string }) {
  const { t } = useLanguage();
  const [state, setState] = useState<"ready" | "copied" | "failed">("ready");
  const copy = async () => {
    try {
      // Pages on plain http other than this machine have no clipboard.
      await navigator.clipboard.writeText(text);
      setState("copied");
    } catch {
      setState("failed");
    }
  };
  return (
    <>
      <Button kind="quiet" onClick={copy}>
        {t.copy[state]}
      </Button>
      <span role="status" className="visually-hidden">
        {state === "ready" ? "" : t.copy[state]}
      </span>
    </>
  );
}
