// The one place that knows CodeMirror; loaded with the SQL page.
import { autocompletion, closeBrackets, completionKeymap } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { PostgreSQL, sql } from "@codemirror/lang-sql";
import { bracketMatching, HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { Compartment, EditorState, Prec } from "@codemirror/state";
import { drawSelection, EditorView, highlightSpecialChars, keymap } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import type { LakeTable } from "./ask.ts";

export interface SqlEditor {
  setText: (text: string) => void;
  setTables: (tables: readonly LakeTable[]) => void;
  destroy: () => void;
}

interface Options {
  root: ShadowRoot;
  text: string;
  label: string;
  onChange: (text: string) => void;
  onRun: () => void;
}

const look = EditorView.theme({
  "&": { fontSize: "13px", backgroundColor: "var(--surface)", color: "var(--ink)" },
  "&.cm-focused": { outline: "2px solid var(--focus)", outlineOffset: "-2px" },
  ".cm-content": { fontFamily: "var(--mono)", padding: "10px 2px", caretColor: "var(--ink)" },
  ".cm-scroller": { minHeight: "8rem", maxHeight: "40vh", overflow: "auto", lineHeight: "1.5" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  "&.cm-focused .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "var(--selected)" },
  ".cm-matchingBracket": { backgroundColor: "var(--selected)" },
  ".cm-tooltip": { backgroundColor: "var(--surface)", color: "var(--ink)", border: "1px solid var(--line)" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--selected)", color: "var(--ink)" },
});

const colours = HighlightStyle.define([
  { tag: tags.keyword, color: "var(--accent)", fontWeight: "600" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--series-3)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--series-4)" },
  { tag: [tags.lineComment, tags.blockComment], color: "var(--ink-faint)" },
  { tag: [tags.typeName, tags.standard(tags.name)], color: "var(--series-2)" },
]);

export function sqlEditor({ root, text, label, onChange, onRun }: Options): SqlEditor {
  const tables = new Compartment();
  const language = (known: readonly LakeTable[]) =>
    sql({
      dialect: PostgreSQL,
      schema: Object.fromEntries(known.map((table) => [table.name, table.columns.map((column) => column.name)])),
    });
  const run = () => {
    onRun();
    return true;
  };
  const view = new EditorView({
    root,
    parent: root,
    state: EditorState.create({
      doc: text,
      extensions: [
        Prec.highest(keymap.of([{ key: "Mod-Enter", run }])),
        // Tab is left alone: it leads out of the editor.
        keymap.of([...completionKeymap, ...historyKeymap, ...defaultKeymap]),
        history(),
        drawSelection(),
        highlightSpecialChars(),
        bracketMatching(),
        closeBrackets(),
        autocompletion(),
        EditorView.lineWrapping,
        EditorView.contentAttributes.of({ "aria-label": label }),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) onChange(update.state.doc.toString());
        }),
        tables.of(language([])),
        look,
        syntaxHighlighting(colours),
      ],
    }),
  });
  let shown: readonly LakeTable[] = [];
  return {
    setText: (next) => {
      const now = view.state.doc.toString();
      if (now !== next) view.dispatch({ changes: { from: 0, to: now.length, insert: next } });
    },
    setTables: (known) => {
      if (known === shown) return;
      shown = known;
      view.dispatch({ effects: tables.reconfigure(language(known)) });
    },
    destroy: () => view.destroy(),
  };
}
