/** `next` is where to go after signing in: a page of this application and nothing else. */
export interface SignInSearch {
  next?: string;
}

export function readSignInSearch(search: Record<string, unknown>): SignInSearch {
  const next = search.next;
  return typeof next === "string" && isOwnPath(next) ? { next } : {};
}

/** `/a?b`, and not `//host`, `/\host` or `https:…`, which lead elsewhere. */
export function isOwnPath(path: string): boolean {
  return /^\/(?![/\\])/.test(path) && !/[\s\\]/.test(path);
}

/** The one-time link's token stands behind the `#`, so that it is never sent with a request for the page. */
export function tokenOf(hash: string): string | null {
  const token = new URLSearchParams(hash.replace(/^#/, "")).get("link");
  return token === null || token === "" ? null : token;
}
