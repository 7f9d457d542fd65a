import { useEffect, useRef } from "react";
import { useLanguage } from "../../language/language.tsx";
import type { LakeTable } from "./ask.ts";
import type { SqlEditor } from "./codemirror.ts";
import styles from "./SqlPage.module.css";

interface Props {
  text: string;
  tables: readonly LakeTable[];
  onChange: (text: string) => void;
  onRun: () => void;
}

/**
 * The editor's own styles are a stylesheet object of a shadow tree: as a <style> element the page's policy would refuse them.
 */
export function Editor({ text, tables, onChange, onRun }: Props) {
  const { t } = useLanguage();
  const host = useRef<HTMLDivElement>(null);
  const editor = useRef<SqlEditor | null>(null);
  const latest = useRef({ text, tables, onChange, onRun });
  useEffect(() => {
    latest.current = { text, tables, onChange, onRun };
    editor.current?.setText(text);
    editor.current?.setTables(tables);
  }, [text, tables, onChange, onRun]);

  useEffect(() => {
    const element = host.current;
    if (element === null) return;
    let gone = false;
    void import("./codemirror.ts").then(({ sqlEditor }) => {
      if (gone) return;
      const root = element.shadowRoot ?? element.attachShadow({ mode: "open" });
      editor.current = sqlEditor({
        root,
        text: latest.current.text,
        label: t.explore.sql.editor,
        onChange: (value) => latest.current.onChange(value),
        onRun: () => latest.current.onRun(),
      });
      editor.current.setTables(latest.current.tables);
    });
    return () => {
      gone = true;
      editor.current?.destroy();
      editor.current = null;
    };
  }, [t]);

  return <div ref={host} className={styles.editor} />;
}
