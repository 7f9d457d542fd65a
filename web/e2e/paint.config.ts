import { defineConfig } from "@playwright/test";
import base from "./playwright.config.ts";

/** `npm run paint`: how soon the pages are there, as a table. */
export default defineConfig({ ...base, testMatch: "paint.ts", reporter: [["./paint-report.ts"]] });
