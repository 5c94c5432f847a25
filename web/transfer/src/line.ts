// The line that all uploads to one server share: whose part is sent next, how many at a time, and waiting
// while there is no connection.
//
// Parts are sent in the order in which their files came, so that one file is finished before the next; the
// parts of the next one fill the line while the first is being completed. Where no connection can be made,
// one part at a time tries, with pauses that grow; all go on when it gets through.

import { backoff, LONGEST_MS } from "./backoff.ts";
import { Climb } from "./climb.ts";
import { type Outcome, Put } from "./part.ts";
import { CONNECTIONS } from "./plan.ts";

/** One try of one part. */
export interface Job {
  url: string;
  body: Blob;
  /** How often it was tried before. */
  tries: number;
  started(put: Put): void;
  sent(bytes: number): void;
  /** `away`: nobody gets through; the line waits, and the part need not. */
  over(outcome: Outcome, away: boolean): void;
}

/** Somebody with parts to send. */
export interface Sender {
  /** Parts that are still to be begun. */
  readonly left: number;
  /** The next try, or null where there is nothing to send at the moment. */
  next(now: number): Job | null;
  /** Called about four times a second. */
  tick(now: number): void;
}

const TICK_MS = 250;
/** So much later than it should, a tick tells that the machine was asleep, or the page frozen. */
const ASLEEP_MS = 10_000;
/** What a connection has, after that, to show that it lives. */
const WAKE_MS = 2_000;
/** Nothing moves for so long, and the system says that there is no network: then there is none. */
const OFFLINE_MS = 2_000;
/** The next file is begun when fewer parts than these are left of those before it. */
const ENOUGH = 2 * CONNECTIONS;

interface Waiting {
  sender: Sender;
  admit: () => void;
}

export class Line {
  readonly #climb = new Climb();
  readonly #senders = new Set<Sender>();
  readonly #waiting: Waiting[] = [];
  readonly #puts = new Set<Put>();
  #sent = 0;
  #failures = 0;
  #partBytes = 0;
  #heardAt = -1;
  #movedAt = 0;
  /** `trying` is the part that finds out whether anybody gets through again. */
  #away: { since: number; failures: number; retryAt: number; trying: Put | null } | null = null;
  #timer: ReturnType<typeof setInterval> | null = null;
  #tickedAt = 0;

  /** Wait for one's turn to begin. Raises the signal's reason. */
  join(sender: Sender, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const gone = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
        reject(signal.reason as Error);
      };
      const admit = (): void => {
        signal.removeEventListener("abort", gone);
        this.#senders.add(sender);
        this.#start();
        resolve();
      };
      const waiting = { sender, admit };
      this.#waiting.push(waiting);
      signal.addEventListener("abort", gone, { once: true });
      this.look();
    });
  }

  leave(sender: Sender): void {
    this.#senders.delete(sender);
    this.look();
    if (!this.#senders.size) this.#stop();
  }

  /** Since when nobody gets through to the bucket, in milliseconds of `performance.now()`, or null. */
  get awaySince(): number | null {
    return this.#away?.since ?? null;
  }

  /** Whether the bucket has ever answered. */
  get heard(): boolean {
    return this.#heardAt >= 0;
  }

  /** Something has changed: send what can be sent. */
  look(): void {
    const now = performance.now();
    while (this.#waiting.length && this.#left() < ENOUGH) this.#waiting.shift()?.admit();
    for (const sender of this.#senders) {
      while (this.#puts.size < this.#allowed(now)) {
        const job = sender.next(now);
        if (!job) break;
        this.#begin(job, now);
      }
    }
  }

  #left(): number {
    return [...this.#senders].reduce((sum, sender) => sum + sender.left, 0);
  }

  #allowed(now: number): number {
    if (!this.#away) return this.#climb.limit;
    return now >= this.#away.retryAt && !this.#away.trying ? this.#puts.size + 1 : 0;
  }

  #begin(job: Job, now: number): void {
    const put = new Put(job.url, job.body, job.tries, (bytes) => {
      this.#sent += bytes;
      this.#movedAt = performance.now();
      // A connection was made since: the others need not wait for this part to arrive.
      if (this.#away && now > this.#away.since) {
        this.#found();
        this.look();
      }
      job.sent(bytes);
    });
    this.#puts.add(put);
    if (this.#away) this.#away.trying = put;
    this.#partBytes = job.body.size;
    job.started(put);
    void put.done.then((outcome) => {
      this.#puts.delete(put);
      // However it ended, stopped by a pause for example: the next part may try.
      if (this.#away?.trying === put) this.#away.trying = null;
      if (outcome.kind === "broken") this.#lost(now);
      else if (outcome.kind !== "stopped") this.#found();
      if (outcome.kind === "refused" && outcome.status >= 500) this.#failures += 1;
      job.over(outcome, this.#away !== null);
      this.look();
    });
  }

  #found(): void {
    this.#heardAt = performance.now();
    this.#away = null;
  }

  /** A connection has failed that was begun at `began`. */
  #lost(began: number): void {
    // Others have got through meanwhile: it was that connection's own trouble.
    if (this.#heardAt > began && navigator.onLine) this.#failures += 1;
    else this.#nobodyGetsThrough();
  }

  #nobodyGetsThrough(): void {
    const now = performance.now();
    // Those that fail together with the first are one failure.
    if (this.#away && now < this.#away.retryAt) return;
    const failures = (this.#away?.failures ?? 0) + 1;
    // Without a network, its return is told; but not every system tells the truth.
    const wait = navigator.onLine ? backoff(failures) : LONGEST_MS;
    this.#away = { since: this.#away?.since ?? now, failures, retryAt: now + wait, trying: null };
  }

  #tick = (): void => {
    const now = performance.now();
    const wall = Date.now();
    if (wall - this.#tickedAt > TICK_MS + ASLEEP_MS) this.#wake(now);
    this.#tickedAt = wall;
    for (const put of this.#puts) put.check(now);
    if (!navigator.onLine && this.#puts.size && now - this.#movedAt > OFFLINE_MS) this.#nobodyGetsThrough();
    if (!this.#away && this.#puts.size >= this.#climb.limit) {
      this.#climb.feed(now, this.#sent, this.#failures, this.#partBytes);
    } else {
      this.#climb.interrupt();
    }
    for (const sender of this.#senders) sender.tick(now);
    this.look();
  };

  /** Time has passed without us, or the connection has come back: whatever was on its way is in doubt. */
  #wake(now: number): void {
    for (const put of this.#puts) {
      // A hidden page's clock may tick once a minute only: then this is how silence is noticed.
      if (put.isDoubted) put.breakOff();
      else put.doubt(now, WAKE_MS);
    }
    if (this.#away) this.#away = { since: now, failures: 1, retryAt: now, trying: null };
  }

  #online = (): void => {
    this.#wake(performance.now());
    this.look();
  };

  #start(): void {
    if (this.#timer !== null) return;
    this.#tickedAt = Date.now();
    this.#timer = setInterval(this.#tick, TICK_MS);
    addEventListener("online", this.#online);
  }

  #stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#away = null;
    removeEventListener("online", this.#online);
  }
}

const lines = new Map<string, Line>();

/** The line to an endpoint: one for all its uploads. */
export function lineTo(endpoint: string): Line {
  let line = lines.get(endpoint);
  if (!line) lines.set(endpoint, (line = new Line()));
  return line;
}
