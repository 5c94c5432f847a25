/**
 * What went wrong, in words for whoever is uploading.
 *
 * `code` is the server's (RFC 9457, member `code`) or one of ours: `unreachable`, `no_answer`, `canceled`,
 * `file_unreadable`, `bucket_refused`, `bucket_unreachable`, `etag_hidden`, `storage_full`. `status` is that
 * of the HTTP answer, 0 where there was none. `retryAfter`, in seconds, is what the answer asked for.
 */
export class TransferError extends Error {
  override readonly name = "TransferError";
  readonly code: string;
  readonly status: number;
  readonly retryAfter: number | null;

  constructor(code: string, message: string, status = 0, retryAfter: number | null = null) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** Whether the upload itself is no more: it was idle for too long, canceled, or is finished already. */
export function isEnd(error: unknown): error is TransferError {
  return error instanceof TransferError && ["no_such_upload", "upload_expired"].includes(error.code);
}

/** Whether the server has looked at the file, or at what is said of it, and will not take it. */
export function isRefused(error: unknown): error is TransferError {
  return error instanceof TransferError && ["unsupported_media", "too_large"].includes(error.code);
}

const QUOTAS = ["too_many_uploads", "daily_limit_reached"];

/** Whether the server may think otherwise in a moment. */
export function isPassing(error: unknown): error is TransferError {
  if (!(error instanceof TransferError)) return false;
  if (error.code === "unreachable") return true;
  if (QUOTAS.includes(error.code) || error.status === 507) return false;
  return error.status >= 500 || error.status === 408 || error.status === 429;
}

/** Who gave it up; never shown as a failure. */
export function canceled(): TransferError {
  return new TransferError("canceled", "The upload was canceled.");
}

export function unreadable(): TransferError {
  const words = "The file can no longer be read: it was changed, moved or deleted. Choose it again.";
  return new TransferError("file_unreadable", words);
}

export function bucketAway(): TransferError {
  const words = "The bucket cannot be reached. Try again later; what has arrived is kept.";
  return new TransferError("bucket_unreachable", words);
}

/** It has never answered. A browser does not tell a wrong address from a missing CORS rule. */
export function bucketStrange(): TransferError {
  return new TransferError(
    "bucket_unreachable",
    "The bucket cannot be reached, or does not let this web page upload. " +
      "Whoever runs it should look at its address and its CORS rules.",
  );
}

export function bucketRefused(part: number, status: number, code: string): TransferError {
  const answer = code ? `${status} ${code}` : `${status}`;
  const words = `The bucket refused part ${part} (${answer}). Try again; what has arrived is kept.`;
  return new TransferError("bucket_refused", words, status);
}

export function storageFull(): TransferError {
  const words = "The bucket takes no more. Try again later; what has arrived is kept.";
  return new TransferError("storage_full", words, 507);
}

export function etagHidden(): TransferError {
  const words = "The bucket hides the ETag header from web pages. Its CORS rules must expose it.";
  return new TransferError("etag_hidden", words, 200);
}
