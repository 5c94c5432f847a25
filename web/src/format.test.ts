import { expect, test } from "vitest";
import { bytes, clock, length, spokenTime, timeLeft, when } from "./format.ts";

test.each([
  [0, "0 bytes"],
  [999, "999 bytes"],
  [1000, "1 KB"],
  [1024 * 1024 * 1.25, "1.3 MB"],
  [1023 * 1024 ** 2, "1 GB"],
  [5 * 1024 ** 3, "5 GB"],
])("%d bytes are written %s", (count, written) => {
  expect(bytes(count)).toBe(written);
});

test.each([
  [0, "0:00"],
  [59.6, "1:00"],
  [3599.7, "1:00:00"],
  [36_061, "10:01:01"],
])("a length of %d seconds is written %s", (seconds, written) => {
  expect(length(seconds)).toBe(written);
});

test.each([
  [1, "a few seconds left"],
  [12, "15 s left"],
  [56, "1 min left"],
  [3569, "59 min left"],
  [3599, "1 h left"],
  [5400, "1 h 30 min left"],
  [7190, "2 h left"],
])("%d seconds left are told as %s", (seconds, told) => {
  expect(timeLeft(seconds)).toBe(told);
});

test("how long ago something was is told in the unit that fits, then as a date", () => {
  const now = Date.parse("2026-11-21T12:00:00Z");
  const told = (ago: number): string => when(new Date(now - ago * 1000).toISOString(), now);
  expect([10, 300, 7200, 86_400, 864_000].map(told)).toEqual([
    "just now",
    "5 minutes ago",
    "2 hours ago",
    "yesterday",
    "Nov 11",
  ]);
});

test("a clock shows the second that has begun", () => {
  expect([0, 59.99, 60, 3599.9, 3600, 36000].map(clock)).toEqual([
    "0:00",
    "0:59",
    "1:00",
    "59:59",
    "1:00:00",
    "10:00:00",
  ]);
});

test("a time is spoken in words", () => {
  expect([0, 61, 7205].map(spokenTime)).toEqual(["0 seconds", "1 minute 1 second", "2 hours 5 seconds"]);
});
