import { useEffect, useState } from "react";
import type { OutgoingState } from "./outgoing.ts";
import { outgoing } from "./server.ts";

const NOTHING: OutgoingState = { waiting: 0, refused: null, held: false, lost: 0 };

/** What waits to be sent. */
export function useOutgoing(): OutgoingState {
  const [state, setState] = useState(NOTHING);
  useEffect(() => {
    let stop: (() => void) | undefined;
    let gone = false;
    void outgoing.then((queue) => {
      if (gone) return;
      setState(queue.state);
      stop = queue.subscribe(() => setState(queue.state));
    });
    return () => {
      gone = true;
      stop?.();
    };
  }, []);
  return state;
}
