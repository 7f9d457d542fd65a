import type { Tone } from "../../design/Notice.tsx";
import type { State } from "./quarantine.ts";

export const TONES: Record<State, Tone> = { open: "warn", repaired: "neutral", replayed: "good" };
