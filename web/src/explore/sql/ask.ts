import { call } from "../../api/client.ts";

export interface SqlResult {
  columns: { name: string; type: string }[];
  rows: unknown[][];
  /** There were more rows than the server gives. */
  truncated: boolean;
  files_read: number;
}

export interface LakeTable {
  name: string;
  columns: { name: string; type: string }[];
}

export function askSql(sql: string, signal?: AbortSignal): Promise<SqlResult> {
  return call<SqlResult>("POST", "/v1/sql", { body: { sql }, ...(signal ? { signal } : {}) });
}

export async function askTables(signal: AbortSignal): Promise<LakeTable[]> {
  return (await call<{ tables: LakeTable[] }>("GET", "/v1/tables", { signal })).tables;
}
