import { expect, test } from "vitest";
import { Pace } from "../src/pace.ts";

test("the speed is that of the last seconds, not of the whole", () => {
  const pace = new Pace();
  let total = 0;
  for (let at = 0; at <= 60_000; at += 250) pace.feed(at, (total += 250 * (at < 50_000 ? 1000 : 10)));
  expect(pace.at(60_000)).toBeCloseTo(10_000, -2);
});

test("a line that has fallen silent is told by a speed that falls", () => {
  const pace = new Pace();
  for (let at = 0; at <= 5_000; at += 250) pace.feed(at, at * 1000);
  expect(pace.at(5_000)).toBeCloseTo(1e6, -3);
  expect(pace.at(10_000)).toBeCloseTo(5e5, -4);
});

test("too early to tell is no speed", () => {
  const pace = new Pace();
  expect(pace.at(0)).toBeNull();
  pace.feed(0, 0);
  pace.feed(250, 1000);
  expect(pace.at(250)).toBeNull();
  pace.feed(500, 2000);
  expect(pace.at(500)).toBe(4000);
  pace.reset();
  expect(pace.at(500)).toBeNull();
});
