// How many parts to send at once: a hill climb on measured throughput.
//
// A browser opens six connections to a host, and six are begun with: on a fast line there is no time to
// find out. Where parts take long, each unfinished one is much to lose, so fewer are tried, and kept if
// that is no slower; where they do not, more. Whatever fails halves the number, as TCP halves its window.
// Nothing here knows the time or a connection: it is fed.

import { CONNECTIONS } from "./plan.ts";

/** Not measured after a step: a new connection first fills the system's own buffers. */
const SETTLE_MS = 500;
const WINDOW_MS = 1_000;
/** Measured for at least so many bytes a connection: on a slow line that is longer than a second. */
const WINDOW_BYTES = 1024 ** 2;
/** A step that changes throughput by less than this factor changes nothing. */
const NOTICEABLE = 1.05;
/** Windows without a step after one that was taken back. */
const REST = 2;
/** Parts that take longer are much to lose. */
const LONG_MS = 30_000;
/** One more than is sent, so that the line is busy between two parts. */
const FEWEST = 2;

export class Climb {
  /** How many parts may be on their way. */
  limit = CONNECTIONS;
  #since: { at: number; sent: number } | null = null;
  #settledAt: number | null = null;
  #failures = 0;
  #before = 0;
  #step = 0;
  #resting = 0;

  /**
   * Say how many bytes were sent, and how many tries failed, until `now`, in milliseconds of any clock;
   * `partBytes` is how long a part is.
   */
  feed(now: number, sent: number, failures: number, partBytes: number): void {
    if (failures > this.#failures) {
      this.#failures = failures;
      this.#rest(Math.max(FEWEST, Math.floor(this.limit / 2)));
    }
    this.#settledAt ??= now + SETTLE_MS;
    if (now < this.#settledAt || !this.#since) {
      this.#since = { at: now, sent };
      return;
    }
    const time = now - this.#since.at;
    const more = sent - this.#since.sent;
    if (time < WINDOW_MS || more < WINDOW_BYTES * this.limit) return;
    this.#since = { at: now, sent };
    this.#judge(more / time, partBytes);
  }

  /** Not as much was sent as might have been: what was measured says nothing. */
  interrupt(): void {
    this.#settledAt = null;
    if (this.#step) this.#rest(this.limit - this.#step);
  }

  /** A window has ended, in which `rate` bytes a millisecond were sent. */
  #judge(rate: number, partBytes: number): void {
    const change = rate / this.#before;
    const taken = this.#step > 0 ? change >= NOTICEABLE : change * NOTICEABLE >= 1;
    if (this.#step && !taken) {
      this.#rest(this.limit - this.#step);
    } else if (this.#resting) {
      this.#resting -= 1;
    } else {
      const long = (this.limit * partBytes) / rate > LONG_MS;
      const next = long ? Math.max(FEWEST, this.limit - 1) : Math.min(CONNECTIONS, this.limit + 1);
      this.#before = rate;
      this.#step = long && this.limit <= FEWEST ? 0 : next - this.limit;
      if (this.#step) this.#stepTo(next);
    }
  }

  #rest(limit: number): void {
    this.#step = 0;
    this.#resting = REST;
    this.#stepTo(limit);
  }

  #stepTo(limit: number): void {
    this.limit = limit;
    this.#settledAt = null;
  }
}
