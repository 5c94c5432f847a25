// The five requests of an upload, each sent once. Source of the format: the S3 routes of Uppy's Companion,
// with what Bucketscribe adds to their answers. Errors are RFC 9457 problems.

import { TransferError } from "./errors.ts";

/** An upload as its server knows it. `partSize` in bytes; idle for `expires` seconds, it ends. */
export interface Begun {
  id: string;
  key: string;
  uploadId: string;
  bucket: string;
  partSize: number;
  expires: number;
}

/** A part the bucket holds. `size` in bytes. */
export interface Held {
  size: number;
  etag: string;
}

/** URLs by part number, good for `expires` seconds. */
export interface SignedParts {
  urls: Map<number, string>;
  expires: number;
}

/** The server's answer to a finished upload. While `state` is `completing`, it goes on without the caller. */
export type Uploaded = {
  id: string;
  state: string;
  key: string;
  location: string;
  bucket: string;
};

interface FirstUrls {
  presignedUrls: Record<string, string>;
  urlsExpire: number;
}

const ANSWER_SECONDS = 30;
/** The server answers a complete within 20 s, whatever the bucket does. */
const COMPLETE_SECONDS = 60;

export class Wire {
  readonly #root: string;
  readonly #headers: () => Record<string, string>;

  /** `endpoint` is where `/s3/multipart` is under; empty for the page's own origin. */
  constructor(endpoint: string, headers: () => Record<string, string>) {
    this.#root = `${endpoint.replace(/\/+$/, "")}/s3/multipart`;
    this.#headers = headers;
  }

  /** `sign` parts are signed with the same answer, where the server does that. */
  async begin(
    filename: string,
    type: string,
    metadata: Record<string, unknown>,
    sign: number,
  ): Promise<{ begun: Begun; signed: SignedParts | null }> {
    const body = { filename, ...(type && { type }), metadata, sign };
    const answer = await this.#ask<Begun & Partial<FirstUrls>>("POST", "", { body });
    const { presignedUrls, urlsExpire, ...begun } = answer;
    return { begun, signed: presignedUrls && urlsExpire ? signedParts(presignedUrls, urlsExpire) : null };
  }

  async sign(begun: Begun, numbers: readonly number[], signal: AbortSignal): Promise<SignedParts> {
    const query = `partNumbers=${ranges(numbers)}`;
    const answer = await this.#ask<{ presignedUrls: Record<string, string>; expires: number }>(
      "GET",
      address(begun, "/batch", query),
      { signal },
    );
    return signedParts(answer.presignedUrls, answer.expires);
  }

  /** What the bucket holds. Asking counts as a sign of life. */
  async list(begun: Begun, signal?: AbortSignal): Promise<Map<number, Held>> {
    const listed = await this.#ask<{ PartNumber: number; Size: number; ETag: string }[]>(
      "GET",
      address(begun),
      { signal },
    );
    return new Map(listed.map((part) => [part.PartNumber, { size: part.Size, etag: part.ETag }]));
  }

  /** Can be repeated: it repeats its first answer. */
  complete(begun: Begun, etags: ReadonlyMap<number, string>, signal: AbortSignal): Promise<Uploaded> {
    const parts = [...etags].sort(([a], [b]) => a - b).map(([PartNumber, ETag]) => ({ PartNumber, ETag }));
    const options = { body: { parts }, signal, seconds: COMPLETE_SECONDS };
    return this.#ask<Uploaded>("POST", address(begun, "/complete"), options);
  }

  async abort(begun: Begun): Promise<void> {
    // A page that is being closed may still say so.
    await this.#ask("DELETE", address(begun), { keepalive: true });
  }

  async #ask<T>(
    method: string,
    path: string,
    options: { body?: unknown; signal?: AbortSignal | undefined; seconds?: number; keepalive?: boolean },
  ): Promise<T> {
    const { body, signal, seconds = ANSWER_SECONDS, keepalive = false } = options;
    const late = AbortSignal.timeout(seconds * 1000);
    // What is wrong with our caller's own headers is not the connection's fault.
    const headers = new Headers(this.#headers());
    if (body !== undefined) headers.set("Content-Type", "application/json");
    try {
      const response = await fetch(this.#root + path, {
        method,
        headers,
        body: body === undefined ? null : JSON.stringify(body),
        signal: signal ? AbortSignal.any([signal, late]) : late,
        credentials: "same-origin",
        cache: "no-store",
        keepalive,
      });
      if (!response.ok) throw await refusal(response);
      return (await response.json()) as T;
    } catch (error) {
      if (error instanceof TransferError) throw error;
      signal?.throwIfAborted();
      const words = "The server cannot be reached. Check the connection; nothing is lost.";
      throw new TransferError("unreachable", words);
    }
  }
}

function signedParts(presignedUrls: Record<string, string>, expires: number): SignedParts {
  const urls = new Map(Object.entries(presignedUrls).map(([number, url]) => [Number(number), url]));
  return { urls, expires };
}

function address(begun: Begun, route = "", query = ""): string {
  const more = query && `&${query}`;
  return `/${encodeURIComponent(begun.uploadId)}${route}?key=${encodeURIComponent(begun.key)}${more}`;
}

async function refusal(response: Response): Promise<TransferError> {
  const wait = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  const retryAfter = Number.isFinite(wait) ? wait : null;
  try {
    const { code, detail } = (await response.json()) as { code?: unknown; detail?: unknown };
    if (typeof code === "string" && typeof detail === "string") {
      return new TransferError(code, detail, response.status, retryAfter);
    }
  } catch {
    // Somebody between us and the server has answered.
  }
  const words = `The server answered ${response.status}. Try again in a moment; nothing is lost.`;
  return new TransferError("no_answer", words, response.status, retryAfter);
}

/** Ascending numbers as the wire writes them: `1-3,7`. */
export function ranges(numbers: readonly number[]): string {
  const pieces: [number, number][] = [];
  for (const number of numbers) {
    const last = pieces.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else pieces.push([number, number]);
  }
  return pieces.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(",");
}
