import type { ReactNode } from "react";
import { useLanguage } from "../language/language.tsx";
import { ScrollBox } from "./ScrollBox.tsx";
import table from "./Table.module.css";

export interface Column<Row> {
  head: string;
  cell: (row: Row) => ReactNode;
  /** `right` for numbers; `cut` for text of any length, which ends in dots. */
  look?: "right" | "cut";
}

interface Props<Row> {
  /** What the table is, for those who do not see what stands around it. */
  label: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  keyOf: (row: Row) => string;
  /** Buttons at the end of a row. */
  actions?: (row: Row) => ReactNode;
}

/** Rows of values under named columns. */
export function DataTable<Row>({ label, columns, rows, keyOf, actions }: Props<Row>) {
  const { t } = useLanguage();
  return (
    <ScrollBox label={label}>
      <table className={table.table}>
        <thead>
          <tr>
            {columns.map(({ head, look }) => (
              <th key={head} className={look === "right" ? table.right : undefined}>
                {head}
              </th>
            ))}
            {actions && (
              <th className={table.end}>
                <span className="visually-hidden">{t.states.actions}</span>
              </th>
            )}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={keyOf(row)}>
              {columns.map(({ head, cell, look }) => (
                <td key={head} className={look && table[look]}>
                  {cell(row)}
                </td>
              ))}
              {actions && (
                <td className={table.end}>
                  <div className={table.actions}>{actions(row)}</div>
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </ScrollBox>
  );
}
