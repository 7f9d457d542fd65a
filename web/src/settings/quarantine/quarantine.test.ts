import { expect, test } from "vitest";
import { visible } from "./quarantine.ts";

test("text is shown as it is, markup included, and what is not seen by its number", () => {
  expect(visible({ text: '{"a":"<img src=x onerror=alert(1)>"}\n\t한' })).toBe(
    '{"a":"<img src=x onerror=alert(1)>"}\n\t한',
  );
  expect(visible({ text: "a\u202eb\u0000c\u200b" })).toBe("a\\u{202e}b\\u{0}c\\u{200b}");
});

test("bytes that are no text are shown byte by byte", () => {
  expect(visible({ base64: btoa("ok\xff\x00\n") })).toBe("ok\\xff\\x00\n");
});
