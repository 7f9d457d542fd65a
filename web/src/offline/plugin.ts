import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Plugin, Rolldown } from "vite";

const START = "index.html";
/** Files of `public/` that the page loads. */
const PLAIN = ["theme.js", "icon.svg"];

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** Writes `sw.js`: the worker with the files that the game's page begins with. */
export function offline(): Plugin {
  return {
    name: "sluice-offline",
    apply: "build",
    generateBundle: {
      order: "post",
      handler(_, bundle) {
        const source = textOf(bundle[START]);
        if (source === undefined) throw new Error(`the build has no ${START}`);
        const files = new Map(PLAIN.map((name) => [name, readFileSync(at(`../../public/${name}`))]));
        for (const [, name = ""] of source.matchAll(/(?:src|href)="\/(assets\/[^"]+)"/g))
          files.set(name, Buffer.from(textOf(bundle[name]) ?? ""));
        const hash = createHash("sha256").update(source);
        for (const [name, bytes] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) hash.update(name).update(bytes);
        const paths = ["/", ...[...files.keys()].sort().map((name) => `/${name}`)];
        const worker = workerText(readFileSync(at("worker.js"), "utf8"), hash.digest("hex").slice(0, 16), paths);
        this.emitFile({ type: "asset", fileName: "sw.js", source: worker });
      },
    },
  };
}

/** The worker as it is served. */
export function workerText(template: string, version: string, paths: readonly string[]): string {
  const text = template
    .replace('"__NAME__"', JSON.stringify(`sluice-play-${version}`))
    .replace('["__FILES__"]', JSON.stringify(paths));
  if (text.includes("__")) throw new Error("a place in the worker was not filled");
  return text;
}

function textOf(output: Rolldown.OutputAsset | Rolldown.OutputChunk | undefined): string | undefined {
  if (output === undefined) return undefined;
  if (output.type === "chunk") return output.code;
  return typeof output.source === "string" ? output.source : Buffer.from(output.source).toString("utf8");
}
