import { storedKey } from "../session/key.ts";

/** What went wrong with a call: the server's own safe sentence, or none where it did not answer. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  constructor(
    /** 0 where no answer came. */
    readonly status: number,
    readonly code: string,
    message: string,
    readonly retryAfterS: number | undefined = undefined,
    /** The whole answer, for calls whose errors say more than a sentence. */
    readonly body: unknown = undefined,
  ) {
    super(message);
  }

  get isUnreachable(): boolean {
    return this.status === 0;
  }

  /** Whether the same call may succeed a little later. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

type QueryValue = string | number | boolean | undefined;

export interface CallOptions {
  query?: Readonly<Record<string, QueryValue>>;
  body?: unknown;
  signal?: AbortSignal;
}

/** Asks the server. The session is a cookie, or the key that this tab was given. */
export async function call<T>(method: string, path: string, options: CallOptions = {}): Promise<T> {
  const { status, text } = await ask(method, path, "application/json", options);
  const body = parsed(text);
  if (status !== 204 && body === undefined) {
    // A page instead of an answer: something between here and the server, or a server without this call.
    throw new ApiError(status, "not_json", "the server's answer cannot be read");
  }
  return body as T;
}

/** Asks for something that is no JSON. */
export async function callText(path: string, signal: AbortSignal): Promise<string> {
  return (await ask("GET", path, "text/plain", { signal })).text;
}

async function ask(method: string, path: string, accept: string, options: CallOptions) {
  const headers: Record<string, string> = { accept };
  const key = storedKey();
  if (key !== null) headers.authorization = `Bearer ${key}`;
  const init: RequestInit = { method, headers, credentials: "same-origin", cache: "no-store" };
  if (options.signal) init.signal = options.signal;
  if (options.body !== undefined) {
    headers["content-type"] = "application/json";
    init.body = JSON.stringify(options.body);
  }
  let response: Response;
  try {
    response = await fetch(path + queryText(options.query), init);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(0, "unreachable", "the server does not answer");
  }
  const text = await response.text();
  if (!response.ok) throw refusal(response, parsed(text));
  return { status: response.status, text };
}

/** An error answer, `{"error": {"code", "message"}}`, or whatever came in its place. */
export function refusal(response: Pick<Response, "status" | "statusText" | "headers">, body: unknown): ApiError {
  const wait = Number(response.headers.get("retry-after") ?? Number.NaN);
  const error = isRecord(body) && isRecord(body.error) ? body.error : {};
  const code = typeof error.code === "string" ? error.code : `http_${response.status}`;
  const message = typeof error.message === "string" ? error.message : response.statusText || `HTTP ${response.status}`;
  return new ApiError(response.status, code, message, Number.isFinite(wait) ? wait : undefined, body);
}

/** `?a=1&b=2`, without what is undefined or empty. */
export function queryText(query: Readonly<Record<string, QueryValue>> = {}): string {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") pairs.set(name, String(value));
  }
  const text = pairs.toString();
  return text === "" ? "" : `?${text}`;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
