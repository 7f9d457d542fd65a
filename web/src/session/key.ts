// A key that somebody gave this tab instead of signing in. It lives as long as the tab, and is sent to this server only.
const NAME = "sluice.key";
let inMemory: string | null = null;

export function storedKey(): string | null {
  try {
    return sessionStorage.getItem(NAME) ?? inMemory;
  } catch {
    return inMemory;
  }
}

export function storeKey(key: string | null): void {
  inMemory = key;
  try {
    if (key === null) sessionStorage.removeItem(NAME);
    else sessionStorage.setItem(NAME, key);
  } catch {
    // Storage is switched off: the key is forgotten with the page.
  }
}
