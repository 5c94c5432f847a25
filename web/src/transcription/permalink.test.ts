import { expect, test } from "vitest";
import { momentIn, permalink } from "./permalink.ts";

test("a permalink brings back its moment", () => {
  expect(permalink("a", 83.249)).toBe("/t/a?t=83.2");
  expect(momentIn("?t=83.2")).toBe(83.2);
});

test("an address without a moment, or with one that is none, has none", () => {
  expect(["", "?t=", "?t=soon", "?t=-1", "?t=Infinity"].map(momentIn)).toEqual([
    null,
    null,
    null,
    null,
    null,
  ]);
});
