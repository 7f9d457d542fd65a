import { STATES, type State } from "./quarantine.ts";

/** Which records are shown, and which of them is open. */
export interface QuarantineSearch {
  state?: State;
  code?: string;
  /** Handle of the record that is open, `day/id`. */
  record?: string;
}

export function readQuarantineSearch(search: Record<string, unknown>): QuarantineSearch {
  const state = STATES.find((name) => name === search.state);
  const text = (name: "code" | "record") => {
    const value = search[name];
    return typeof value === "string" && value !== "" ? { [name]: value } : {};
  };
  return { ...(state ? { state } : {}), ...text("code"), ...text("record") };
}
