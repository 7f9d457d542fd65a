import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";
import { offline } from "./src/offline/plugin.ts";

const server = process.env.SLUICE_URL ?? "http://127.0.0.1:7070";
const proxy = Object.fromEntries(
  ["/v1", "/api", "/health", "/metrics"].map((path) => [path, { target: server, ws: true }]),
);

export default defineConfig({
  plugins: [react(), offline()],
  // Inlined assets would be `data:` addresses, which the page's policy allows for images only.
  build: {
    target: ["chrome125", "firefox128", "safari18"],
    assetsInlineLimit: 0,
    manifest: true,
    // All styles are six kilobytes: less than the requests for them in parts.
    cssCodeSplit: false,
    chunkSizeWarningLimit: 600,
  },
  // The module for pages is built by itself: while developing it is the server's.
  server: { proxy: { ...proxy, "/sdk": server } },
  preview: { proxy },
  test: { include: ["src/**/*.test.ts", "sdk/**/*.test.ts"], environment: "node" },
});
