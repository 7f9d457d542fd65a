import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useSyncExternalStore } from "react";
import { storedKey } from "../session/key.ts";
import { concerns, Push, type PushState, type Socket, TOPICS, type Topic } from "./push.ts";

/** The one connection of this page. */
const push = new Push({
  // A WebSocket's handlers take events of more kinds than are used here.
  connect: () => new WebSocket(address()) as unknown as Socket,
  key: storedKey,
  random: Math.random,
});

function address(): string {
  const url = new URL("/v1/live", window.location.href);
  url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}

/** Keeps the connection while the page is looked at, and has asked anew what the server says has changed. */
export function usePush(): void {
  const client = useQueryClient();
  useEffect(() => {
    // Not again while it is being asked: a server that is slow would be asked for ever.
    const ask = (topics: ReadonlySet<Topic>) =>
      client.invalidateQueries({ predicate: ({ meta }) => concerns(meta, topics) }, { cancelRefetch: false });
    const look = () => {
      if (document.hidden) {
        push.stop();
        return;
      }
      push.start(ask);
      // What has changed while nobody looked was told to nobody.
      void ask(new Set(TOPICS));
    };
    if (!document.hidden) push.start(ask);
    document.addEventListener("visibilitychange", look);
    return () => {
      document.removeEventListener("visibilitychange", look);
      push.stop();
    };
  }, [client]);
}

export function usePushState(): PushState {
  return useSyncExternalStore(push.subscribe, () => push.state);
}
