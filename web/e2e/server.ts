import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { preview } from "vite";

const START = fileURLToPath(new URL("../dist/index.html", import.meta.url));

const LOG = fileURLToPath(new URL("artifacts/sluice.log", import.meta.url));

/** What is asked of the program; all else is a page. */
const CALLS = ["/v1", "/api", "/health", "/metrics", "/openapi.json"];

/** As in `local/src/runtime/console.rs`. */
const POLICY =
  "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; " +
  "object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'";

export interface Sluice {
  /** Where the pages and the API are. */
  url: string;
  adminKey: string;
  /** May write events of the game and of nothing else, as the game's own key. */
  gameKey: string;
  /** Path of the link by which the first admin joins; none where the server has no members. */
  firstLink: string | null;
  /** Asks the API as an admin. */
  api: <T>(method: string, path: string, body?: unknown) => Promise<T>;
  /** Runs a command of the program on the server's data. */
  command: (...args: string[]) => string;
  stop: () => Promise<void>;
}

/** A server of its own, with its own data folder, on a free port. */
export async function startSluice(): Promise<Sluice> {
  const binary = process.env.SLUICE_BIN;
  if (binary === undefined) throw new Error("set SLUICE_BIN to the program `sluice`");
  mkdirSync(dirname(LOG), { recursive: true });
  const data = mkdtempSync(join(tmpdir(), "sluice-e2e-"));
  const child = spawn(binary, ["up", "--data", data, "--listen", "127.0.0.1:0"], {
    stdio: ["ignore", "pipe", openSync(LOG, "a")],
  });
  const address = await addressOf(child);
  const front = process.env.SLUICE_PAGES === "dist" ? await pagesBefore(address) : null;
  const url = front?.url ?? address;
  const adminKey = readFileSync(join(data, "admin.key"), "utf8").trim();
  await assertServesThesePages(url);

  const api = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    const response = await fetch(url + path, {
      method,
      headers: { authorization: `Bearer ${adminKey}`, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    return (text === "" ? undefined : JSON.parse(text)) as T;
  };
  const { key: gameKey } = await api<{ key: string }>("POST", "/v1/keys", {
    scope: "write",
    name: "game",
    sources: ["square-blitz"],
    types: ["game.start", "game.result", "web.event"],
  });
  return {
    url,
    adminKey,
    gameKey,
    firstLink: firstLink(data),
    api,
    command: (...args) =>
      execFileSync(binary, ["--data", data, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }),
    stop: async () => {
      await front?.stop();
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await gone;
      rmSync(data, { recursive: true, force: true });
    },
  };
}

/** The pages of web/dist, with the policy that the program gives them, before a program that was built with others. */
async function pagesBefore(address: string): Promise<{ url: string; stop: () => Promise<void> }> {
  const proxy = Object.fromEntries(CALLS.map((path) => [path, { target: address, ws: true }]));
  const server = await preview({
    root: fileURLToPath(new URL("..", import.meta.url)),
    logLevel: "silent",
    preview: { port: 0, host: "127.0.0.1", proxy, headers: { "content-security-policy": POLICY } },
  });
  const bound = server.httpServer.address();
  if (bound === null || typeof bound === "string") throw new Error("the pages have no port");
  return { url: `http://127.0.0.1:${bound.port}`, stop: () => server.close() };
}

function firstLink(data: string): string | null {
  const file = join(data, "first.link");
  if (!existsSync(file)) return null;
  const { pathname, hash } = new URL(readFileSync(file, "utf8").trim());
  return pathname + hash;
}

function addressOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      said += chunk.toString();
      const found = /is up at (http:\/\/\S+)/.exec(said);
      if (found?.[1]) resolve(found[1]);
    });
    child.once("exit", (code) => reject(new Error(`sluice ended with ${code}: ${said}`)));
  });
}

/** The program serves the pages that it was built with; others than these would be tested by mistake. */
async function assertServesThesePages(address: string): Promise<void> {
  const response = await fetch(address, { headers: { accept: "text/html" } });
  if (!response.ok || (await response.text()) !== readFileSync(START, "utf8"))
    throw new Error("the program was not built with the pages in web/dist: scripts/web.sh, then cargo build");
}
