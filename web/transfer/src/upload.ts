// The life of one upload: begin, send the parts, complete. What can come in between:
//
// - The page goes: the next one finds the upload remembered, asks the bucket what it holds, and sends the
//   rest.
// - The answer to complete is lost, and with it the page: the next one finds that the upload is no more,
//   completes it again, and hears the first answer.
// - The upload has ended, for being idle: it is begun anew, once, and that is said. One that was canceled is
//   not.
// - What is in the bucket is not what was thought: the bucket is asked again, and the difference sent.
// - Server or connection are away: everything waits.

import { Description } from "./description.ts";
import { canceled, isEnd, isRefused, TransferError } from "./errors.ts";
import { Gate } from "./gate.ts";
import { Gauge } from "./gauge.ts";
import { type Job, type Line, lineTo, type Sender } from "./line.ts";
import type { Progress, Upload, UploadOptions } from "./options.ts";
import { partSizeOf, Plan } from "./plan.ts";
import { ownStorage, Remembered } from "./remembered.ts";
import { Sending } from "./sending.ts";
import { Server } from "./server.ts";
import { FIRST_BATCH } from "./signed.ts";
import { type Begun, type Held, type SignedParts, type Uploaded, Wire } from "./wire.ts";

/** Upload a file. All uploads to one endpoint share the line, and are sent in the order of these calls. */
export function upload(file: Blob, options: UploadOptions): Upload {
  return new FileUpload(file, options);
}

/** How often the bucket's list may differ from ours. */
const ROUNDS = 3;

class FileUpload implements Upload, Sender {
  readonly done: Promise<Uploaded>;
  readonly #file: Blob;
  readonly #options: UploadOptions;
  readonly #description: Description;
  readonly #line: Line;
  readonly #remembered: Remembered;
  readonly #stop = new AbortController();
  readonly #server: Server;
  readonly #gate: Gate;
  readonly #gauge = new Gauge();
  #state: "going" | "done" | "failed" = "going";
  #sending: Sending | null = null;
  #begun: Begun | null = null;
  #signed: SignedParts | null = null;

  constructor(file: Blob, options: UploadOptions) {
    this.#file = file;
    this.#options = options;
    this.#description = new Description(file, options);
    this.#server = new Server(new Wire(options.endpoint, options.headers ?? (() => ({}))), this.#stop.signal);
    this.#line = lineTo(options.endpoint);
    const storage = options.storage === undefined ? ownStorage() : options.storage;
    this.#remembered = new Remembered(storage, this.#description.identity, file);
    this.#gate = new Gate(options.paused ?? false, this.#stop.signal);
    this.done = this.#run();
    // Whoever only listens to progress need not catch it.
    this.done.catch(() => undefined);
  }

  pause(): void {
    if (this.#gate.isClosed || this.#isOver) return;
    this.#gate.isClosed = true;
    this.#sending?.pause(this.#gauge.speed);
    this.#tell();
    this.#line.look();
  }

  resume(): void {
    if (!this.#gate.isClosed || this.#isOver) return;
    this.#gate.open();
    this.#sending?.resume();
  }

  async abort(): Promise<void> {
    if (this.#state === "done") return;
    this.#stop.abort(canceled());
    // At once: the same file may be chosen again before the server has been told.
    if (this.#begun) this.#remembered.forget(this.#begun);
    this.#sending?.fail(canceled());
    // What has failed might have been resumed: now it will not be.
    if (this.#state === "failed") await this.#giveUp();
    // An upload that is just being begun is given up when there is an answer.
    else await this.done.catch(() => undefined);
  }

  // What the line asks

  get left(): number {
    if (this.#gate.isClosed || this.#isOver) return 0;
    return this.#sending?.left ?? Math.ceil(this.#file.size / partSizeOf(this.#file.size));
  }

  next(now: number): Job | null {
    return this.#sending?.next(now) ?? null;
  }

  tick(now: number): void {
    this.#sending?.check(now);
    // On a slow line, and in a pause, no part is finished in time.
    if (this.#begun && !this.#isOver) this.#server.keepAlive(this.#begun, this.#sending?.storedAt ?? 0);
    this.#tell();
  }

  get #isOver(): boolean {
    return this.#state !== "going" || this.#stop.signal.aborted;
  }

  // Its life

  async #run(): Promise<Uploaded> {
    try {
      await this.#gate.passed();
      await this.#line.join(this, this.#stop.signal);
      await this.#gate.passed();
      const uploaded = await this.#fromTheBeginning();
      this.#state = "done";
      this.#tell();
      return uploaded;
    } catch (error) {
      this.#state = "failed";
      if (this.#stop.signal.aborted) {
        await this.#giveUp();
        throw canceled();
      }
      // Whatever is still being asked, nobody waits for.
      this.#stop.abort(error);
      throw error;
    } finally {
      this.#line.leave(this);
    }
  }

  async #fromTheBeginning(): Promise<Uploaded> {
    const found = await this.#remembered.find();
    let uploaded = found && (await this.#toTheEnd(found, true));
    uploaded ??= await this.#toTheEnd(await this.#begin(), false);
    uploaded ??= await this.#toTheEnd(await this.#begin(), false);
    if (uploaded) return uploaded;
    throw new TransferError("upload_expired", "The upload has ended again, unfinished. Try again.", 410);
  }

  /** Take an upload to its end; null if it has ended before that, and is to be begun anew. */
  async #toTheEnd(begun: Begun, resumed: boolean): Promise<Uploaded | null> {
    this.#begun = begun;
    this.#server.patience = Math.max(this.#server.patience, begun.expires * 1000);
    let known = !resumed;
    try {
      const held = resumed ? await this.#server.list(begun) : new Map<number, Held>();
      known = true;
      this.#options.onBegun?.({ id: begun.id, key: begun.key });
      return await this.#send(begun, held);
    } catch (error) {
      this.#stop.signal.throwIfAborted();
      if (!isEnd(error)) return this.#anewAfter(begun, error, known);
    }
    try {
      // If it was finished, by us or somebody else, that answer is repeated.
      return await this.#complete(begun, this.#sending?.etags ?? new Map());
    } catch (error) {
      this.#stop.signal.throwIfAborted();
      return this.#anewAfter(begun, error, known);
    }
  }

  async #send(begun: Begun, found: ReadonlyMap<number, Held>): Promise<Uploaded> {
    let held = found;
    for (let round = 1; ; round++) {
      await this.#gate.passed();
      this.#sending = new Sending({
        file: this.#file,
        plan: new Plan(this.#file.size, begun.partSize),
        held,
        sign: (numbers) => this.#server.sign(begun, numbers),
        signed: this.#signed,
        line: this.#line,
        patience: this.#server.patience,
        onSent: (bytes) => (this.#gauge.passed += bytes),
      });
      this.#signed = null;
      this.#line.look();
      const etags = await this.#sending.done;
      try {
        return await this.#complete(begun, etags);
      } catch (error) {
        const differs = error instanceof TransferError && error.code === "invalid_part";
        if (!differs || round === ROUNDS) throw error;
      }
      held = await this.#server.list(begun);
    }
  }

  /** Null if an upload is to be begun anew; raises the error if not. `known`: the server knew of it. */
  #anewAfter(begun: Begun, error: unknown, known: boolean): null {
    const code = error instanceof TransferError ? error.code : "";
    const foreign = !known && code === "not_yours";
    if (!isEnd(error) && !isRefused(error) && !foreign) throw error;
    this.#remembered.forget(begun);
    this.#begun = null;
    this.#sending = null;
    if (isRefused(error)) throw error;
    // Somebody has canceled what is being sent: they do not want it sent again.
    const elsewhere = "The upload was canceled elsewhere.";
    if (known && code === "no_such_upload") throw new TransferError(code, elsewhere, 404);
    const { name } = this.#description;
    const idle = `The upload of ${name} was idle for too long and has ended. It begins anew.`;
    if (!foreign) this.#options.onNotice?.(idle);
    return null;
  }

  // What it asks the server

  async #begin(): Promise<Begun> {
    const { name, type, metadata } = this.#description;
    const { begun, signed } = await this.#server.begin(name, type, metadata, FIRST_BATCH);
    this.#begun = begun;
    this.#stop.signal.throwIfAborted();
    this.#signed = signed;
    void this.#remembered.save(begun);
    return begun;
  }

  async #complete(begun: Begun, etags: ReadonlyMap<number, string>): Promise<Uploaded> {
    const uploaded = await this.#server.complete(begun, etags);
    this.#remembered.forget(begun);
    return uploaded;
  }

  async #giveUp(): Promise<void> {
    const begun = this.#begun;
    if (!begun) return;
    this.#begun = null;
    this.#remembered.forget(begun);
    await this.#server.giveUp(begun);
  }

  // What its caller hears

  #tell(): void {
    const { size } = this.#file;
    const sent = this.#state === "done" ? size : (this.#sending?.sent ?? 0);
    const waiting = this.#waiting();
    const progress = this.#gauge.read(size, sent, this.#sending, waiting, this.#gate.isClosed);
    try {
      this.#options.onProgress?.(progress);
    } catch (error) {
      // A mistake in showing it must not fail an upload, nor hold up the others on the line.
      reportError(error);
    }
  }

  #waiting(): Progress["waiting"] {
    if (this.#gate.isClosed || this.#isOver) return null;
    // While the server is away, what it has signed is sent.
    const unanswered = this.#server.isAway && !this.#sending?.inFlight;
    const away = unanswered ? "server" : this.#line.awaySince === null ? null : "bucket";
    return away && !navigator.onLine ? "offline" : away;
  }
}
