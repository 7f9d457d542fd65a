import type { GameResultData, GameStartData } from "../schema/events.ts";
import type { Result } from "./game.ts";
import { randomId, visitId, visitorId } from "./identity.ts";
import type { OutgoingEvent } from "./outgoing.ts";
import { outgoing, SOURCE } from "./server.ts";

/** `game.start`: the player pressed start. Answers the id of the play. */
export function recordStart(): string {
  const play = randomId();
  const at = new Date().toISOString();
  record("game.start", at, { play_id: play, clicked_at: at } satisfies GameStartData);
  return play;
}

/** `game.result` of the same play. */
export function recordResult(play: string, result: Result, nickname: string): void {
  const data: GameResultData = { play_id: play, ...result, ...(nickname === "" ? {} : { nickname }) };
  record("game.result", new Date().toISOString(), { ...data });
}

function record(type: string, time: string, data: Record<string, unknown>): void {
  const event: OutgoingEvent = {
    id: randomId(),
    source: SOURCE,
    type,
    time,
    userid: visitorId(),
    sessionid: visitId(),
    data,
  };
  void outgoing.then((queue) => queue.add(event));
}
