import { SelectField } from "../design/Field.tsx";
import { LANGUAGES, useLanguage } from "../language/language.tsx";
import { chooseTheme, THEMES, useTheme } from "../theme/theme.ts";
import styles from "./Preferences.module.css";

/** Language and theme. */
export function Preferences() {
  const { t, language, speak } = useLanguage();
  const theme = useTheme();
  return (
    <div className={styles.preferences}>
      <SelectField
        label={t.language.label}
        labelHidden
        value={language}
        options={LANGUAGES.map((value) => ({ value, label: t.language.names[value] }))}
        onChange={speak}
      />
      <SelectField
        label={t.theme.label}
        labelHidden
        value={theme}
        options={THEMES.map((value) => ({ value, label: t.theme.names[value] }))}
        onChange={chooseTheme}
      />
    </div>
  );
}
