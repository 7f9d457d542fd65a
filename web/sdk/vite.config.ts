import { defineConfig } from "vite";

/** One module without a hash in its name: pages of others load it from `/sdk/sluice.js`. */
export default defineConfig({
  publicDir: false,
  build: {
    target: "es2022",
    outDir: "dist/sdk",
    minify: true,
    lib: { entry: "sdk/sluice.ts", formats: ["es"], fileName: () => "sluice.js" },
  },
});
