// One PUT of one part, as one try. XMLHttpRequest, because fetch tells nothing of an upload's progress.

/** What became of it: the bucket's answer, or none. `etag` is null where the bucket hides it from pages. */
export type Outcome =
  | { kind: "stored"; etag: string | null }
  | { kind: "refused"; status: number; code: string; retryAfter: number | null }
  | { kind: "broken" }
  | { kind: "stopped" };

/** Silent for so long, a connection is taken for dead; twice as long at each further try. */
const SILENT_MS = 45_000;
/** The bucket may think about a part it has received. */
const THINKING_MS = 120_000;

export class Put {
  readonly done: Promise<Outcome>;
  /** Bytes handed to the connection so far. */
  loaded = 0;
  readonly #request = new XMLHttpRequest();
  readonly #patience: number;
  #deadline: number;
  #stopped = false;
  #doubted = false;

  /** `onSent` hears each further handful of bytes; `tries` is how often this part was tried before. */
  constructor(url: string, body: Blob, tries: number, onSent: (bytes: number) => void) {
    const request = this.#request;
    this.#patience = SILENT_MS * 2 ** Math.min(tries, 3);
    this.#deadline = performance.now() + this.#patience;
    request.upload.onprogress = (event) => {
      this.#deadline = performance.now() + this.#patience;
      this.#doubted = false;
      const more = event.loaded - this.loaded;
      this.loaded = event.loaded;
      onSent(more);
    };
    request.upload.onload = () => {
      this.#deadline = performance.now() + Math.max(THINKING_MS, this.#patience);
    };
    this.done = new Promise((resolve) => {
      request.onload = () => resolve(outcome(request));
      request.onerror = () => resolve({ kind: "broken" });
      request.onabort = () => resolve(this.#stopped ? { kind: "stopped" } : { kind: "broken" });
    });
    request.open("PUT", url);
    request.send(body);
  }

  /** Nobody wants it any more. */
  stop(): void {
    this.#stopped = true;
    this.#request.abort();
  }

  /** Give it up if it was silent for too long. */
  check(now: number): void {
    if (now > this.#deadline) this.breakOff();
  }

  /** Whatever was before, it has so long to show that it lives. */
  doubt(now: number, milliseconds: number): void {
    this.#deadline = now + milliseconds;
    this.#doubted = true;
  }

  /** It was doubted, and has shown nothing since. */
  get isDoubted(): boolean {
    return this.#doubted;
  }

  /** Break it off, as a connection that has failed. */
  breakOff(): void {
    this.#request.abort();
  }
}

function outcome(request: XMLHttpRequest): Outcome {
  const { status } = request;
  // Asking for a header that is hidden would be told on the console.
  const header = (name: RegExp): string | null => request.getAllResponseHeaders().match(name)?.[1] ?? null;
  if (status === 200) return { kind: "stored", etag: header(/^etag: *(.+?)\s*$/im) };
  const code = /<Code>([^<]{1,100})<\/Code>/.exec(request.responseText)?.[1] ?? "";
  const wait = Number.parseFloat(header(/^retry-after: *(.+)$/im) ?? "");
  return { kind: "refused", status, code, retryAfter: Number.isFinite(wait) ? wait : null };
}
