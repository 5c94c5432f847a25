import { expect, test } from "vitest";
import { isPassing, TransferError } from "../src/errors.ts";
import { ranges } from "../src/wire.ts";

test.each([
  ["unreachable", 0, true],
  ["no_answer", 502, true],
  ["storage_unavailable", 503, true],
  ["too_many_requests", 429, true],
  ["busy", 503, true],
  ["too_many_uploads", 429, false],
  ["daily_limit_reached", 429, false],
  ["storage_full", 507, false],
  ["unsupported_media", 415, false],
  ["sign_in_required", 401, false],
  ["bucket_refused", 0, false],
])("whether %s (%d) may pass: %s", (code, status, passing) => {
  expect(isPassing(new TransferError(code, "words", status))).toBe(passing);
});

test("numbers of parts are asked for in ranges", () => {
  expect(ranges([1, 2, 3, 7, 9, 10])).toBe("1-3,7,9-10");
  expect(ranges([5])).toBe("5");
});
