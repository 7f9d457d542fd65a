/**
 * Reads a page's part of an address and forgets the rest of it. The router by itself hands a page whatever else stands there, which
 * would bring back what a reader has refused.
 */
export function only<S extends object>(read: (search: Record<string, unknown>) => S) {
  return (search: Record<string, unknown>): S => {
    const forgotten = Object.fromEntries(Object.keys(search).map((name) => [name, undefined]));
    return { ...forgotten, ...read(search) };
  };
}
