import type { UseQueryResult } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { type Column, DataTable } from "../design/DataTable.tsx";
import { Empty, Loading } from "../design/Notice.tsx";
import { Panel } from "../design/Panel.tsx";
import { RoomFailure } from "./RoomFailure.tsx";

interface Props<Row> {
  title: string;
  note?: ReactNode;
  /** Beside the title. */
  controls?: ReactNode;
  /** Between the title and the rows: filters, what went wrong with a row. */
  above?: ReactNode;
  below?: ReactNode;
  found: Pick<UseQueryResult, "isPending" | "error" | "refetch">;
  rows: readonly Row[] | undefined;
  /** Said where there are no rows. */
  empty: ReactNode;
  /** Said where the server has no such thing, which is no fault. */
  absent?: ReactNode;
  columns: readonly Column<Row>[];
  keyOf: (row: Row) => string;
  actions?: (row: Row) => ReactNode;
}

/** A room's list: asked, being asked, not to be had, empty, or there. */
export function ListPanel<Row>({
  title,
  note,
  controls,
  above,
  below,
  found,
  rows,
  empty,
  absent,
  ...list
}: Props<Row>) {
  return (
    <Panel title={title} note={note} actions={controls}>
      {above}
      {found.isPending && <Loading />}
      <RoomFailure error={found.error} absent={absent} onRetry={() => found.refetch()} />
      {rows?.length === 0 && <Empty>{empty}</Empty>}
      {rows !== undefined && rows.length > 0 && <DataTable label={title} rows={rows} {...list} />}
      {below}
    </Panel>
  );
}
