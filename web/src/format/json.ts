/** A value in one line, as it stands in lists. */
export function brief(value: unknown, most = 300): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "string") return cut(value, most);
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value)) return cut(JSON.stringify(value), most);
  const words = Object.entries(value)
    .filter(([, inner]) => inner !== null && inner !== undefined)
    .map(([name, inner]) => {
      const isPlain = typeof inner === "string" && inner !== "" && !/[\s"]/.test(inner);
      return `${name}=${isPlain ? inner : JSON.stringify(inner)}`;
    });
  return cut(words.join(" "), most);
}

export function pretty(value: unknown): string {
  return JSON.stringify(value, null, 2);
}

/** The leaves of a value by their paths, `data.nested.x`; lists stay whole. */
export function leaves(value: unknown, path = ""): [path: string, value: unknown][] {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return path === "" ? [] : [[path, value]];
  return Object.entries(value).flatMap(([name, inner]) => leaves(inner, path === "" ? name : `${path}.${name}`));
}

/** An address that a link may lead to; whatever else is text. */
export function webAddress(value: unknown): string | null {
  if (typeof value !== "string" || !/^https?:\/\//i.test(value)) return null;
  try {
    const { protocol, href } = new URL(value);
    return protocol === "http:" || protocol === "https:" ? href : null;
  } catch {
    return null;
  }
}

function cut(text: string, most: number): string {
  const characters = [...text.slice(0, most * 2)];
  return characters.length > most ? `${characters.slice(0, most).join("")}…` : text;
}
