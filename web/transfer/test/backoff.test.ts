import { expect, test } from "vitest";
import { backoff } from "../src/backoff.ts";

test("pauses double up to fifteen seconds", () => {
  const pauses = [1, 2, 3, 6, 7, 100].map((failures) => backoff(failures, () => 1));
  expect(pauses).toEqual([300, 600, 1200, 9600, 15_000, 15_000]);
});

test("chance shortens a pause to half of it at most", () => {
  expect(backoff(3, () => 0)).toBe(600);
});
