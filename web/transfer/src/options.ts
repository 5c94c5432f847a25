import type { Uploaded } from "./wire.ts";

/** What an upload may be told. Only `endpoint` must be. */
export interface UploadOptions {
  /** Under which `/s3/multipart` is; `""` is the page's own origin. */
  endpoint: string;
  /** Sent along with every request to the endpoint, for example `Authorization`. Never sent to the bucket. */
  headers?: (() => Record<string, string>) | undefined;
  /** The file's name and MIME type, if other than its own. */
  name?: string | undefined;
  type?: string | undefined;
  /** What the server is told of the file; `name`, `size` and `partSize` are added. */
  metadata?: Record<string, string | number | boolean> | undefined;
  /** Where unfinished uploads are remembered: `localStorage` unless given; if null, in the page only. */
  storage?: Storage | null | undefined;
  /** Begins only when told to resume. */
  paused?: boolean | undefined;
  /** Called about four times a second, and at the end. */
  onProgress?: ((progress: Progress) => void) | undefined;
  /** The server has made the upload, or knows one that was remembered. */
  onBegun?: ((begun: { id: string; key: string }) => void) | undefined;
  /** Something the user should know that is no failure, in words. */
  onNotice?: ((text: string) => void) | undefined;
}

/**
 * How far it is. `sent`, `size` and `resumed` in bytes: `sent` counts what is on its way, and `resumed`,
 * what the bucket held before. `waiting` says for what, if nothing can be sent at the moment. `inFlight` is
 * how many parts are on their way. Speed and time left are null where they are not known.
 */
export interface Progress {
  sent: number;
  size: number;
  resumed: number;
  bytesPerSecond: number | null;
  secondsLeft: number | null;
  waiting: "offline" | "server" | "bucket" | null;
  inFlight: number;
}

/** An upload that was begun. */
export interface Upload {
  /** The server's answer, when it has taken the file. Raises TransferError: `canceled` after an abort. */
  readonly done: Promise<Uploaded>;
  /** Stop sending. What is finished is kept, and the upload kept alive as long as the page is. */
  pause(): void;
  resume(): void;
  /** Give it up, at the server, too. Ends when the server knows, or cannot be told. */
  abort(): Promise<void>;
}
