import { createContext, type ReactNode, useContext, useEffect, useMemo, useState } from "react";
import { type Formats, formatsFor } from "../format/format.ts";
import { en, type Messages } from "./en.ts";
import { ko } from "./ko.ts";

export const LANGUAGES = ["en", "ko"] as const;
export type Language = (typeof LANGUAGES)[number];

const NAME = "sluice.language";
const CATALOGUES: Record<Language, Messages> = { en, ko };

interface Spoken {
  language: Language;
  t: Messages;
  formats: Formats;
  speak: (language: Language) => void;
}

const Context = createContext<Spoken | null>(null);

export function LanguageProvider({ children }: { children: ReactNode }) {
  const [language, setLanguage] = useState<Language>(firstLanguage);
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  const spoken = useMemo<Spoken>(
    () => ({
      language,
      t: CATALOGUES[language],
      formats: formatsFor(language),
      speak: (next) => {
        setLanguage(next);
        try {
          localStorage.setItem(NAME, next);
        } catch {
          // Storage is switched off: the choice holds for this page.
        }
      },
    }),
    [language],
  );
  return <Context value={spoken}>{children}</Context>;
}

export function useLanguage(): Spoken {
  const spoken = useContext(Context);
  if (spoken === null) throw new Error("LanguageProvider is missing");
  return spoken;
}

function firstLanguage(): Language {
  let chosen: string | null = null;
  try {
    chosen = localStorage.getItem(NAME);
  } catch {
    // Storage is switched off: the browser's language it is.
  }
  return pickLanguage(chosen, navigator.languages);
}

/** The one that was chosen, else the first of the browser's that we speak, else English. */
export function pickLanguage(chosen: string | null, wished: readonly string[]): Language {
  const known = (code: string | undefined): Language | undefined => LANGUAGES.find((l) => l === code);
  return known(chosen ?? undefined) ?? wished.map((w) => known(w.split("-")[0])).find(Boolean) ?? "en";
}
