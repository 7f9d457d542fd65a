/**
 * Rows as CSV (RFC 4180) that a spreadsheet shows as they are: text that begins like a formula gets an apostrophe before it, as OWASP
 * advises, since values come from strangers. Numbers stay numbers, minus included.
 */
export function csvOf(columns: readonly string[], rows: readonly (readonly unknown[])[]): string {
  const lines = [columns, ...rows].map((row) => row.map(cell).join(","));
  // The mark makes Excel read UTF-8.
  return `\ufeff${lines.join("\r\n")}\r\n`;
}

function cell(value: unknown): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "number" || typeof value === "boolean" || typeof value === "bigint") return String(value);
  const text = typeof value === "string" ? value : JSON.stringify(value);
  // A spreadsheet skips white space and quotation marks before it looks for a formula.
  const harmless = /^[\s"']*[=+\-@\t\r\n＝＋－＠]/.test(text) || /^[\t\r\n]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}
