import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const DIST = fileURLToPath(new URL("../dist", import.meta.url));

const LOG = fileURLToPath(new URL("artifacts/sluice.log", import.meta.url));

/** The policy under which the application has to work. */
const POLICY =
  "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'";

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
  const adminKey = readFileSync(join(data, "admin.key"), "utf8").trim();
  const pages = (await servesPages(address)) ? null : await servePages(address);
  const url = pages === null ? address : `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;

  const api = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    const response = await fetch(address + path, {
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
      pages?.closeAllConnections();
      pages?.close();
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await gone;
      rmSync(data, { recursive: true, force: true });
    },
  };
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

/** Whether the program has these very pages inside; one that was built with others is asked for the API only. */
async function servesPages(address: string): Promise<boolean> {
  const response = await fetch(address, { headers: { accept: "text/html" } });
  return response.ok && (await response.text()) === readFileSync(join(DIST, "index.html"), "utf8");
}

const TYPES: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};

/** Pages and API under one origin, for a program without these pages. */
function servePages(address: string): Promise<Server> {
  const server = createServer((incoming, outgoing) => {
    const path = new URL(incoming.url ?? "/", address).pathname;
    if (/^\/(v1|api|health|metrics)(\/|$)/.test(path)) {
      const forward = request(
        address + incoming.url,
        { method: incoming.method, headers: incoming.headers },
        (answer) => {
          outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
          answer.pipe(outgoing);
        },
      );
      forward.on("error", () => outgoing.writeHead(502).end());
      incoming.pipe(forward);
      return;
    }
    const file = extname(path) === "" ? "/index.html" : path;
    outgoing.setHeader("content-security-policy", POLICY);
    try {
      const bytes = readFileSync(join(DIST, file));
      outgoing.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" }).end(bytes);
    } catch {
      outgoing.writeHead(404).end();
    }
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}
