import type { Messages } from "../language/en.ts";

const PAGES: readonly [prefix: string, name: (t: Messages) => string][] = [
  ["/monitor", (t) => t.pages.monitor],
  ["/explore", (t) => t.pages.explore],
  ["/settings", (t) => t.pages.settings],
  ["/signin", (t) => t.signin.title],
];

/** The window's title on a page. */
export function titleOf(path: string, t: Messages): string {
  if (path === "/") return `${t.play.title} · Sluice`;
  const page = PAGES.find(([prefix]) => path.startsWith(prefix));
  return page ? `${page[1](t)} · Sluice` : "Sluice";
}
