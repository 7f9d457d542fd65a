import type { ReactNode } from "react";
import { ApiError } from "../api/client.ts";
import { Empty, Failure } from "../design/Notice.tsx";

interface Props {
  error: unknown;
  /** Said where the server has no such thing, which is no fault. */
  absent: ReactNode;
  onRetry: () => void;
}

export function RoomFailure({ error, absent, onRetry }: Props) {
  if (error === null) return null;
  if (error instanceof ApiError && error.status === 404) return <Empty>{absent}</Empty>;
  return <Failure error={error} onRetry={onRetry} />;
}
