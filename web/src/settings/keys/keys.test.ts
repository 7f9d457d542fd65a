import { expect, test } from "vitest";
import { namesIn } from "./keys.ts";

test.each([
  ["", []],
  [" , ", []],
  ["shop", ["shop"]],
  ["shop, game\n web ", ["shop", "game", "web"]],
])("%j names %j", (text, names) => expect(namesIn(text)).toEqual(names));
