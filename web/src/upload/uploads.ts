// The uploads of this page: what each one is at, and what can be done with it. Files go into Uppy by the drop
// area, by `add` or from an earlier visit; a few are sent at a time, the others wait their turn.

import { reportUnauthorized, request } from "../api.ts";
import type { Progress } from "@bucketscribe/transfer";
import type { PageFile, PageUppy } from "./uppy.ts";

export type Phase = "queued" | "sending" | "paused" | "failed" | "missing" | "sent";

/** `missing`: the browser was closed and no longer has the file. Sizes are bytes, times seconds. */
export interface Upload {
  file: string;
  /** Of the transcription, as soon as the server has given one. */
  id: string | null;
  name: string;
  size: number;
  sent: number;
  phase: Phase;
  waiting: Progress["waiting"];
  bytesPerSecond: number | null;
  secondsLeft: number | null;
  error: string | null;
}

const AT_ONCE = 3;
const TELL_MS = 120;

export class Uploads {
  #uppy: PageUppy;
  #tell: () => void;
  #started = new Set<string>();
  #statuses = new Map<string, Progress>();
  #unauthorized = new Set<string>();
  #held = false;
  #pausedByHold: string[] = [];
  #telling: ReturnType<typeof setTimeout> | undefined;

  /** `changed` is called when something has, some times a second at most. */
  constructor(uppy: PageUppy, changed: () => void) {
    this.#uppy = uppy;
    this.#tell = () => {
      this.#telling ??= setTimeout(() => {
        this.#telling = undefined;
        changed();
      }, TELL_MS);
    };
    uppy.on("files-added", (files) => {
      for (const file of files) this.#started.delete(file.id);
      this.#startNext();
    });
    uppy.on("restored", () => this.#restored());
    uppy.on("state-update", this.#tell);
    uppy.on("transfer-status", (file, status) => {
      this.#statuses.set(file.id, status);
      this.#tell();
    });
    uppy.on("upload-success", (file) => this.#ended(file?.id));
    uppy.on("upload-error", (file, error) => {
      const status = "status" in error ? error.status : undefined;
      if (file && status === 401) {
        this.#unauthorized.add(file.id);
        reportUnauthorized();
      }
      this.#ended(file?.id);
    });
    uppy.on("file-removed", (file) => this.#ended(file.id));
  }

  /** All of them, in the order they were added. */
  list(): Upload[] {
    return this.#uppy.getFiles().map((file) => this.#upload(file));
  }

  add(files: File[], source: string): void {
    this.#uppy.addFiles(
      files.map((data) => ({
        source,
        name: data.name,
        type: data.type,
        data,
        meta: { name: data.name, relativePath: data.webkitRelativePath || null },
      })),
    );
  }

  pause(file: string): void {
    const found = this.#uppy.getFile(file);
    if (!found || found.isPaused) return;
    if (this.#started.has(file)) this.#uppy.pauseResume(file);
    else this.#uppy.setFileState(file, { isPaused: true });
    this.#startNext();
  }

  /** Go on with one that is paused or has failed. */
  resume(file: string): void {
    const found = this.#uppy.getFile(file);
    if (!found || found.isGhost) return;
    if (found.isPaused && this.#started.has(file)) this.#uppy.pauseResume(file);
    else this.#start(file);
  }

  cancel(file: string): void {
    const found = this.#uppy.getFile(file);
    if (!found) return;
    const id = transcriptionOf(found);
    // What is being sent is given up by the transfer, the rest by us.
    if (id !== null && !this.#started.has(file)) {
      void request(`/transcriptions/${id}/cancel`, { method: "POST" }).catch(() => {});
    }
    this.#uppy.removeFile(file);
  }

  /** Forget one that is over; the list has its transcription. */
  forget(file: string): void {
    if (this.#uppy.getFile(file)) this.#uppy.removeFile(file);
  }

  /** Give the file again to an upload that misses it. False if it is another one. */
  choose(file: string, data: File): boolean {
    const found = this.#uppy.getFile(file);
    if (!found || found.name !== data.name || found.size !== data.size) return false;
    this.#uppy.setFileState(file, { data, isGhost: false });
    this.#start(file);
    return true;
  }

  /** Stop sending for as long as nobody is signed in. */
  hold(): void {
    if (this.#held) return;
    this.#held = true;
    this.#pausedByHold = [...this.#started].filter((file) => this.#uppy.getFile(file)?.isPaused !== true);
    for (const file of this.#pausedByHold) this.pause(file);
  }

  release(): void {
    this.#held = false;
    for (const file of this.#unauthorized) {
      if (this.#uppy.getFile(file)) this.#start(file);
    }
    this.#unauthorized.clear();
    for (const file of this.#pausedByHold) {
      if (this.#uppy.getFile(file)?.isPaused) this.resume(file);
    }
    this.#pausedByHold = [];
    this.#startNext();
  }

  #restored(): void {
    // Each is started by itself, not in the batches that it was in.
    this.#uppy.setState({ currentUploads: {}, recoveredState: null });
    for (const file of this.#uppy.getFiles()) {
      if (file.progress.uploadComplete) this.#uppy.removeFile(file.id);
    }
    this.#startNext();
  }

  #startNext(): void {
    if (this.#held) return;
    const files = this.#uppy.getFiles();
    let sending = files.filter((file) => this.#started.has(file.id) && !file.isPaused).length;
    for (const file of files) {
      if (sending >= AT_ONCE) return;
      if (this.#upload(file).phase !== "queued") continue;
      this.#start(file.id);
      sending += 1;
    }
  }

  #start(file: string): void {
    this.#started.add(file);
    this.#unauthorized.delete(file);
    // The way to start one file and no other; `upload()` would also take those that have failed.
    this.#uppy.retryUpload(file).catch(() => this.#ended(file));
  }

  #ended(file: string | undefined): void {
    if (file !== undefined) {
      this.#started.delete(file);
      this.#statuses.delete(file);
    }
    this.#tell();
    this.#startNext();
  }

  #upload(file: PageFile): Upload {
    const status = this.#statuses.get(file.id);
    const size = file.size ?? 0;
    return {
      file: file.id,
      id: transcriptionOf(file),
      name: file.name,
      size,
      sent: status?.sent ?? (file.progress.bytesUploaded || 0),
      phase: this.#phase(file),
      waiting: status?.waiting ?? null,
      bytesPerSecond: status?.bytesPerSecond ?? null,
      secondsLeft: status?.secondsLeft ?? null,
      error: file.error ?? null,
    };
  }

  #phase(file: PageFile): Phase {
    if (file.progress.uploadComplete) return "sent";
    if (file.isGhost) return "missing";
    if (file.error) return "failed";
    if (file.isPaused) return "paused";
    return this.#started.has(file.id) ? "sending" : "queued";
  }
}

function transcriptionOf(file: PageFile): string | null {
  return file.transfer?.id ?? file.response?.body?.id ?? null;
}
