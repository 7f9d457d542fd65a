import { call } from "../../api/client.ts";

/** How long things are kept, as the schemas and the settings say; none is without end. */
export interface Retention {
  tables: { table: string; days: number | null }[];
  /** How long an event that comes again is known. */
  state_days: number;
  queue_days: number;
  dead_letter_days: number;
  quarantine_days: number | null;
  /** None where mails are sent and none is kept. */
  outbox_mails: number | null;
}

export function askRetention(signal: AbortSignal): Promise<Retention> {
  return call<Retention>("GET", "/v1/retention", { signal });
}
