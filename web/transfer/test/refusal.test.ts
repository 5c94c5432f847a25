import { expect, test } from "vitest";
import { meaningOf } from "../src/refusal.ts";

test.each([
  [507, "", "full"],
  [403, "XMinioAdminBucketQuotaExceeded", "full"],
  [404, "NoSuchUpload", "ended"],
  [403, "AccessDenied", "url"],
  [503, "SlowDown", "passing"],
  [429, "", "passing"],
  [400, "RequestTimeout", "passing"],
  [400, "EntityTooLarge", "final"],
] as const)("a part refused with %d %s is %s", (status, code, meaning) => {
  expect(meaningOf(status, code)).toBe(meaning);
});
