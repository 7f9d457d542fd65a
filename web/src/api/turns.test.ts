import { expect, test } from "vitest";
import { Turns } from "./turns.ts";

/** Calls that wait until they are told to end. */
function calls(turns: Turns) {
  const begun: string[] = [];
  const ends = new Map<string, (error?: Error) => void>();
  const make = (name: string, signal?: AbortSignal) =>
    turns.take(() => {
      begun.push(name);
      return new Promise<string>((resolve, reject) => {
        ends.set(name, (error) => (error ? reject(error) : resolve(name)));
      });
    }, signal);
  return { begun, make, end: (name: string, error?: Error) => ends.get(name)?.(error) };
}

const settled = () => new Promise((resolve) => setTimeout(resolve));

test("two go at a time, and the others in their order", async () => {
  const { begun, make, end } = calls(new Turns(2));
  const made = ["a", "b", "c", "d"].map((name) => make(name));
  expect(begun).toEqual(["a", "b"]);
  end("b");
  await settled();
  expect(begun).toEqual(["a", "b", "c"]);
  for (const name of ["a", "c"]) end(name);
  await settled();
  end("d");
  expect(await Promise.all(made)).toEqual(["a", "b", "c", "d"]);
});

test("a call that fails gives its turn away", async () => {
  const { begun, make, end } = calls(new Turns(1));
  const failed = make("a");
  void make("b");
  end("a", new Error("no"));
  await expect(failed).rejects.toThrow("no");
  expect(begun).toEqual(["a", "b"]);
});

test("a call that is given up while it waits is never made, and holds nobody up", async () => {
  const { begun, make, end } = calls(new Turns(1));
  const stop = new AbortController();
  void make("a");
  const given = make("b", stop.signal);
  void make("c");
  stop.abort();
  await expect(given).rejects.toThrow("aborted");
  end("a");
  await settled();
  expect(begun).toEqual(["a", "c"]);
});

test("a turn that nobody waits for is there for the next", async () => {
  const { begun, make, end } = calls(new Turns(1));
  for (const name of ["a", "b"]) {
    const made = make(name);
    end(name);
    await made;
  }
  expect(begun).toEqual(["a", "b"]);
});
