// One pass over a file's parts, but for those that are in the bucket already.

import { backoff } from "./backoff.ts";
import {
  bucketAway,
  bucketRefused,
  bucketStrange,
  etagHidden,
  storageFull,
  TransferError,
  unreadable,
} from "./errors.ts";
import type { Job, Line } from "./line.ts";
import type { Outcome, Put } from "./part.ts";
import type { Plan } from "./plan.ts";
import { meaningOf } from "./refusal.ts";
import { Signed } from "./signed.ts";
import type { Held, SignedParts } from "./wire.ts";

/** A part refused with 403 this often in a row was not refused for the age of its URL. */
const REFUSALS = 3;
/** What fails more often than this, while nothing else gets through either, is given up after a while. */
const TRIES = 10;
/** A bucket that has never answered is more likely to be set up wrongly than to come back. */
const STRANGER_MS = 60_000;
/** What a pause would lose is worth so many seconds. */
const FINISH_SECONDS = 3;

interface Trouble {
  tries: number;
  refusals: number;
  breaks: number;
  /** Not tried again before. */
  at: number;
}

/** What a pass is made of. `patience` in milliseconds: after so long without a stored part it gives up. */
export interface Pass {
  file: Blob;
  plan: Plan;
  held: ReadonlyMap<number, Held>;
  sign: (numbers: readonly number[]) => Promise<SignedParts>;
  /** What was signed already. */
  signed: SignedParts | null;
  line: Line;
  patience: number;
  onSent: (bytes: number) => void;
}

export class Sending {
  /** ETags by number, when all parts are in the bucket. Raises TransferError. */
  readonly done: Promise<ReadonlyMap<number, string>>;
  /** Bytes that were in the bucket before. */
  readonly resumed: number;
  readonly etags = new Map<number, string>();
  readonly #pass: Pass;
  readonly #signed: Signed;
  readonly #flying = new Map<number, Put>();
  readonly #troubles = new Map<number, Trouble>();
  /** Ascending. */
  #pending: number[] = [];
  #stored = 0;
  /** When the last part was stored, or sending begun or resumed, in milliseconds of `performance.now()`. */
  storedAt = performance.now();
  #paused = false;
  #over = false;
  #resolve!: (etags: ReadonlyMap<number, string>) => void;
  #reject!: (error: unknown) => void;

  constructor(pass: Pass) {
    this.#pass = pass;
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    const news = (error: unknown): void => (error ? this.fail(error) : pass.line.look());
    this.#signed = new Signed(pass.sign, pass.signed, news);
    for (let number = 1; number <= pass.plan.count; number++) {
      const held = pass.held.get(number);
      if (held?.size === pass.plan.length(number)) this.#keep(number, held.etag);
      else this.#pending.push(number);
    }
    this.resumed = this.#stored;
    this.#signed.ahead(this.#upcoming());
    this.#finishIfComplete();
  }

  /** Bytes in the bucket, or on their way there. */
  get sent(): number {
    let sent = this.#stored;
    for (const put of this.#flying.values()) sent += put.loaded;
    return sent;
  }

  get inFlight(): number {
    return this.#flying.size;
  }

  get left(): number {
    return this.#paused ? 0 : this.#pending.length;
  }

  /** Begins no more parts; of those on their way, what can soon be finished at this speed goes on. */
  pause(bytesPerSecond: number): void {
    this.#paused = true;
    let allowed = bytesPerSecond * FINISH_SECONDS;
    const left = (number: number, put: Put): number => this.#pass.plan.length(number) - put.loaded;
    const flying = [...this.#flying].map(([number, put]) => ({ put, left: left(number, put) }));
    for (const { put, left } of flying.sort((one, other) => one.left - other.left)) {
      allowed -= left;
      if (allowed < 0) put.stop();
      // One that is all sent is the bucket's business.
      else if (left > 0) put.doubt(performance.now(), FINISH_SECONDS * 1000);
    }
  }

  resume(): void {
    this.#paused = false;
    this.storedAt = performance.now();
    this.#pass.line.look();
  }

  fail(error: unknown): void {
    this.#over = true;
    this.#stop();
    this.#reject(error);
  }

  /** The next part to try, for the line. */
  next(now: number): Job | null {
    if (this.#paused || this.#over || !this.#pending.length) return null;
    const upcoming = this.#upcoming();
    this.#signed.ahead(upcoming);
    for (const [place, number] of upcoming.entries()) {
      const url = this.#signed.get(number);
      // One that waits for its URL, or for its pause to pass, does not hold up the others.
      if (url === null || (this.#troubles.get(number)?.at ?? 0) > now) continue;
      this.#pending.splice(place, 1);
      return this.#job(number, url);
    }
    return null;
  }

  #job(number: number, url: string): Job {
    const { file, plan, onSent } = this.#pass;
    const start = plan.start(number);
    return {
      url,
      body: file.slice(start, start + plan.length(number)),
      tries: this.#troubles.get(number)?.tries ?? 0,
      started: (put) => this.#flying.set(number, put),
      sent: onSent,
      over: (outcome, away) => {
        this.#flying.delete(number);
        if (!this.#over) this.#judge(number, url, outcome, away);
      },
    };
  }

  /** Gives up where nobody has got through for too long. */
  check(now: number): void {
    const { line, patience } = this.#pass;
    if (this.#over || this.#paused || line.awaySince === null || !navigator.onLine) return;
    // What passed before this pass, or in a pause, was not spent on trying.
    const since = Math.max(line.awaySince, this.storedAt);
    if (now - since < (line.heard ? patience : Math.min(patience, STRANGER_MS))) return;
    this.fail(line.heard ? bucketAway() : bucketStrange());
  }

  #upcoming(): readonly number[] {
    return this.#pending.slice(0, Signed.horizon);
  }

  #keep(number: number, etag: string): void {
    this.etags.set(number, etag);
    this.#stored += this.#pass.plan.length(number);
  }

  #finishIfComplete(): void {
    if (this.etags.size < this.#pass.plan.count) return;
    this.#over = true;
    this.#resolve(this.etags);
  }

  #stop(): void {
    for (const put of this.#flying.values()) put.stop();
  }

  /** What becomes of a part after a try. */
  #judge(number: number, url: string, outcome: Outcome, away: boolean): void {
    switch (outcome.kind) {
      case "stored":
        if (!outcome.etag) return this.fail(etagHidden());
        this.storedAt = performance.now();
        this.#troubles.delete(number);
        this.#keep(number, outcome.etag);
        return this.#finishIfComplete();
      case "stopped":
        return this.#again(number);
      case "broken":
        // A bucket may close the connection of a URL that is too old before its answer can be read.
        this.#trouble(number).breaks += 1;
        if (this.#trouble(number).breaks > 1 && navigator.onLine) this.#signed.drop(number, url);
        return void this.#afterBreak(number, away);
      case "refused":
        return this.#afterRefusal(number, url, outcome);
    }
  }

  async #afterBreak(number: number, away: boolean): Promise<void> {
    // A file that was changed or moved breaks the connection, too.
    const start = this.#pass.plan.start(number);
    try {
      await this.#pass.file.slice(start, start + 1).arrayBuffer();
    } catch {
      return this.fail(unreadable());
    }
    if (away) this.#again(number);
    else this.#later(number, null, bucketAway());
    this.#pass.line.look();
  }

  #afterRefusal(number: number, url: string, outcome: Outcome & { kind: "refused" }): void {
    const { status, code, retryAfter } = outcome;
    const error = bucketRefused(number, status, code);
    switch (meaningOf(status, code)) {
      case "full":
        return this.fail(storageFull());
      case "ended":
        return this.fail(new TransferError("no_such_upload", "The upload has ended.", status));
      case "url":
        this.#signed.drop(number, url);
        if (++this.#trouble(number).refusals >= REFUSALS) return this.fail(error);
        return this.#again(number);
      case "passing":
        return this.#later(number, retryAfter, error);
      case "final":
        return this.fail(error);
    }
  }

  #trouble(number: number): Trouble {
    let trouble = this.#troubles.get(number);
    if (!trouble) this.#troubles.set(number, (trouble = { tries: 0, refusals: 0, breaks: 0, at: 0 }));
    return trouble;
  }

  /** Try it again when it is its turn. */
  #again(number: number): void {
    const place = this.#pending.findIndex((other) => other > number);
    this.#pending.splice(place < 0 ? this.#pending.length : place, 0, number);
  }

  /** Try it again after a pause, or give up with `error`. */
  #later(number: number, retryAfter: number | null, error: TransferError): void {
    const now = performance.now();
    const trouble = this.#trouble(number);
    trouble.tries += 1;
    if (trouble.tries > TRIES && now - this.storedAt > this.#pass.patience) return this.fail(error);
    trouble.at = now + Math.max(backoff(trouble.tries), (retryAfter ?? 0) * 1000);
    this.#again(number);
  }
}
