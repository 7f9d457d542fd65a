import type { ReactNode } from "react";
import { ApiError } from "../api/client.ts";
import { Empty, Failure } from "../design/Notice.tsx";

interface Props {
  error: unknown;
  /** Said where the server has no such thing, which is no fault; without it that is an error as any other. */
  absent?: ReactNode;
  onRetry: () => void;
}

export function RoomFailure({ error, absent, onRetry }: Props) {
  if (error === null) return null;
  if (absent !== undefined && error instanceof ApiError && error.status === 404) return <Empty>{absent}</Empty>;
  return <Failure error={error} onRetry={onRetry} />;
}
