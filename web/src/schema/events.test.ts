import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { generate } from "../../scripts/schemas.mjs";

test("the types are those of the schemas; if not: npm run schemas", () => {
  const written = readFileSync(new URL("./events.ts", import.meta.url), "utf8");
  expect(written).toBe(generate());
});
