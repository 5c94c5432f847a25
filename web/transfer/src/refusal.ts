// What a bucket means by refusing a part, in S3's terms and in those of servers like it.

const FULL = ["XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage"];

/**
 * `full`: it takes no more. `ended`: there is no such upload. `url`: the URL is too old, or wrong. `passing`:
 * it may think otherwise in a moment. `final`: trying again changes nothing.
 */
export type Meaning = "full" | "ended" | "url" | "passing" | "final";

/** `code` is the one in the answer's XML, if there is any. */
export function meaningOf(status: number, code: string): Meaning {
  if (status === 507 || FULL.includes(code)) return "full";
  if (status === 404 || code === "NoSuchUpload") return "ended";
  if (status === 403) return "url";
  return status >= 500 || status === 408 || status === 429 || code === "RequestTimeout" ? "passing" : "final";
}
