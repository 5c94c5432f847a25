// The server, asked patiently: one that is away is being restarted, or there is no connection.

import { backoff, pause } from "./backoff.ts";
import { isPassing } from "./errors.ts";
import type { Begun, Held, SignedParts, Uploaded, Wire } from "./wire.ts";

/** The server's own mistakes are tried again this often. */
const MISTAKES = 5;
/** How long a server may be away, while there is a connection. */
const PATIENCE_MS = 600_000;
/** Who gives up waits for nothing long: the server ends idle uploads itself. */
const GIVE_UP_MS = 5_000;

/** For one upload, until its signal says that it is over. Raises TransferError, or the signal's reason. */
export class Server {
  /** In milliseconds: at least as long as the server waits for us. */
  patience = PATIENCE_MS;
  readonly #wire: Wire;
  readonly #signal: AbortSignal;
  /** Questions that were not answered at first. */
  #late = 0;
  #aliveAt = performance.now();

  constructor(wire: Wire, signal: AbortSignal) {
    this.#wire = wire;
    this.#signal = signal;
  }

  /** Whether an answer is waited for that did not come at first. */
  get isAway(): boolean {
    return this.#late > 0;
  }

  /** Is not broken off: an upload that was begun must be known, to be given up. */
  begin(...told: Parameters<Wire["begin"]>): ReturnType<Wire["begin"]> {
    return this.#patiently(() => this.#wire.begin(...told), this.patience, this.#signal);
  }

  sign(begun: Begun, numbers: readonly number[]): Promise<SignedParts> {
    return this.#patiently(() => this.#wire.sign(begun, numbers, this.#signal), this.patience, this.#signal);
  }

  list(begun: Begun): Promise<Map<number, Held>> {
    return this.#patiently(() => this.#wire.list(begun, this.#signal), this.patience, this.#signal);
  }

  complete(begun: Begun, etags: ReadonlyMap<number, string>): Promise<Uploaded> {
    const ask = (): Promise<Uploaded> => this.#wire.complete(begun, etags, this.#signal);
    return this.#patiently(ask, this.patience, this.#signal);
  }

  /** Give an upload up; where that cannot be told, it ends when it is idle. */
  async giveUp(begun: Begun): Promise<void> {
    const late = AbortSignal.timeout(GIVE_UP_MS);
    await this.#patiently(() => this.#wire.abort(begun), GIVE_UP_MS, late).catch(() => undefined);
  }

  /** Say that an upload is not idle, where there was no sign of life since `since` for a while. */
  keepAlive(begun: Begun, since: number): void {
    const now = performance.now();
    if (now - Math.max(this.#aliveAt, since) < (begun.expires * 1000) / 4) return;
    this.#aliveAt = now;
    // Once: the next time is soon enough.
    this.#wire.list(begun, this.#signal).catch(() => undefined);
  }

  async #patiently<T>(ask: () => Promise<T>, patience: number, signal: AbortSignal): Promise<T> {
    let since: number | null = null;
    let mistakes = 0;
    try {
      for (let failures = 1; ; failures++) {
        try {
          return await ask();
        } catch (error) {
          signal.throwIfAborted();
          if (!isPassing(error)) throw error;
          const now = performance.now();
          if (since === null) this.#late += 1;
          // Without a connection the time does not count: nobody knows whether the server is away.
          if (since === null || !navigator.onLine) since = now;
          if (error.status === 500) mistakes += 1;
          if (now - since > patience || mistakes > MISTAKES) throw error;
          await pause(Math.max(backoff(failures), (error.retryAfter ?? 0) * 1000), signal);
        }
      }
    } finally {
      if (since !== null) this.#late -= 1;
    }
  }
}
