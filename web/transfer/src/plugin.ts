// The transfer as an Uppy uploader: Uppy's events say what to do, and hear what happens.

import { BasePlugin, type PluginOpts, type Uppy } from "@uppy/core";
import type { Body, Meta, UppyFile } from "@uppy/core/utils";
import { filterFilesToEmitUploadStarted, filterFilesToUpload } from "@uppy/core/utils";
import { TransferError } from "./errors.ts";
import type { Progress, Upload, UploadOptions } from "./options.ts";
import { upload } from "./upload.ts";
import type { Uploaded } from "./wire.ts";

type Own = Pick<UploadOptions, "endpoint" | "headers" | "storage">;

/** The plugin's options: those of an upload, and what to tell the server of each file. */
export interface TransferOptions<M extends Meta, B extends Body> extends PluginOpts, Own {
  metadata?: ((file: UppyFile<M, B>) => Record<string, string | number | boolean>) | undefined;
}

declare module "@uppy/core" {
  // The parameters must be those of Uppy's own declaration.
  interface UppyEventMap<M extends Meta, B extends Body> {
    /** About four times a second, for each file that is being sent. */
    "transfer-status": (file: UppyFile<M, B>, status: Progress) => void;
  }
}

declare module "@uppy/core/utils" {
  interface LocalUppyFile<M extends Meta, B extends Body> {
    /** The upload at the server, as soon as it is begun. */
    transfer?: { id: string; key: string };
  }
  interface RemoteUppyFile<M extends Meta, B extends Body> {
    transfer?: never;
  }
}

/** `uppy.use(Transfer, { endpoint: "" })`. The server's answer is `response.body` of `upload-success`. */
export class Transfer<M extends Meta, B extends Body> extends BasePlugin<TransferOptions<M, B>, M, B> {
  readonly #uploads = new Map<string, Upload>();
  /** Kept, to be given up when their files are removed. */
  readonly #failed = new Map<string, Upload>();

  constructor(uppy: Uppy<M, B>, opts: TransferOptions<M, B>) {
    super(uppy, opts);
    this.type = "uploader";
    this.id = opts.id ?? "Transfer";
  }

  override install(): void {
    this.#setResumable(true);
    this.uppy.addUploader(this.#send);
    this.uppy.on("upload-pause", this.#onPause);
    this.uppy.on("pause-all", this.#onPauseAll);
    this.uppy.on("resume-all", this.#onResumeAll);
    this.uppy.on("file-removed", this.#onRemoved);
  }

  /** Stops sending. What was begun can be resumed by the next page. */
  override uninstall(): void {
    this.#setResumable(false);
    this.uppy.removeUploader(this.#send);
    this.uppy.off("upload-pause", this.#onPause);
    this.uppy.off("pause-all", this.#onPauseAll);
    this.uppy.off("resume-all", this.#onResumeAll);
    this.uppy.off("file-removed", this.#onRemoved);
    this.#onPauseAll();
  }

  #setResumable(resumableUploads: boolean): void {
    const { capabilities } = this.uppy.getState();
    this.uppy.setState({ capabilities: { ...capabilities, resumableUploads } });
  }

  #onPause = (file: UppyFile<M, B> | undefined, isPaused: boolean): void => {
    const found = file && this.#uploads.get(file.id);
    if (isPaused) found?.pause();
    else found?.resume();
  };

  #onPauseAll = (): void => {
    for (const one of this.#uploads.values()) one.pause();
  };

  #onResumeAll = (): void => {
    for (const one of this.#uploads.values()) one.resume();
  };

  // Comes after a cancel of all, too, for each file.
  #onRemoved = (file: UppyFile<M, B>): void => {
    for (const uploads of [this.#uploads, this.#failed]) {
      void uploads.get(file.id)?.abort();
      uploads.delete(file.id);
    }
  };

  #send = async (ids: string[]): Promise<void> => {
    const files = filterFilesToUpload(this.uppy.getFilesByIds(ids));
    this.uppy.emit("upload-start", filterFilesToEmitUploadStarted(files));
    await Promise.all(files.map((file) => this.#sendFile(file)));
  };

  async #sendFile(file: UppyFile<M, B>): Promise<void> {
    const going = this.#uploads.get(file.id);
    if (going) {
      // Tried again while it is being sent, or paused: it is not sent twice.
      going.resume();
      await going.done.catch(() => undefined);
      return;
    }
    const { endpoint, headers, storage } = this.opts;
    // It may be gone by the time there is news of it.
    const current = (): UppyFile<M, B> | undefined => this.uppy.getState().files[file.id];
    if (file.isRemote || !file.data) {
      const words = "This file is not on this device. Choose it again.";
      this.uppy.emit("upload-error", file, new TransferError("file_unreadable", words));
      return;
    }
    const started = file.progress.uploadStarted ?? Date.now();
    let one: Upload | undefined;
    let answer: Uploaded;
    try {
      one = upload(file.data, {
        endpoint,
        headers,
        storage,
        name: file.meta.name || file.name,
        type: file.type,
        metadata: this.opts.metadata?.(file),
        paused: file.isPaused,
        onBegun: (transfer) => current() && this.uppy.setFileState(file.id, { transfer }),
        onNotice: (text) => this.uppy.info(text, "warning"),
        onProgress: (progress) => {
          const shown = current();
          if (!shown) return;
          this.uppy.emit("upload-progress", shown, {
            uploadStarted: started,
            bytesUploaded: progress.sent,
            bytesTotal: progress.size,
          });
          this.uppy.emit("transfer-status", shown, progress);
        },
      });
      this.#uploads.set(file.id, one);
      this.#failed.delete(file.id);
      answer = await one.done;
    } catch (error) {
      if (error instanceof TransferError && error.code === "canceled") return;
      this.#uploads.delete(file.id);
      if (one) this.#failed.set(file.id, one);
      const failure = error instanceof Error ? error : new Error(String(error));
      const status = error instanceof TransferError ? error.status : 0;
      this.uppy.emit("upload-error", current(), failure, { status });
      return;
    }
    this.#uploads.delete(file.id);
    const body = { ...answer } as unknown as B;
    this.uppy.emit("upload-success", current(), { status: 200, body, bytesUploaded: file.data.size });
  }
}
