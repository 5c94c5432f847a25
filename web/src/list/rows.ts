// The rows of the list: each is an upload of this page, a transcription of the server, or both at once.

import type { Transcription } from "../api.ts";
import type { Upload } from "../upload/uploads.ts";

export interface Row {
  /** Stays while the row does. */
  key: number;
  upload: Upload | null;
  transcription: Transcription | null;
}

export function idOf(row: Row): string | null {
  return row.transcription?.id ?? row.upload?.id ?? null;
}

/**
 * Rows newest first. One that is there is never moved: an upload becomes a transcription where it stands.
 * Ids are UUIDs of version 7, so that their order is the order in which transcriptions began.
 */
export class Rows {
  rows: Row[] = [];
  #keys = 0;

  /** What the list begins with. If it is not `all`, older ones may follow, and those that are there stay. */
  begin(transcriptions: Transcription[], all: boolean): void {
    const listed = new Set(transcriptions.map((transcription) => transcription.id));
    const oldest = all ? "" : (transcriptions.at(-1)?.id ?? "");
    this.rows = this.rows.filter((row) => {
      const id = row.transcription?.id;
      return row.upload !== null || id === undefined || listed.has(id) || id < oldest;
    });
    for (const transcription of transcriptions) this.put(transcription);
  }

  put(transcription: Transcription): void {
    const row = this.#byId(transcription.id);
    if (row) {
      row.transcription = transcription;
      return;
    }
    const made: Row = { key: this.#nextKey(), upload: null, transcription };
    const older = this.rows.findIndex((other) => {
      const id = idOf(other);
      return id !== null && id < transcription.id;
    });
    this.rows.splice(older === -1 ? this.rows.length : older, 0, made);
  }

  remove(id: string): void {
    this.rows = this.rows.filter((row) => {
      if (row.transcription?.id === id) row.transcription = null;
      return row.transcription !== null || row.upload !== null;
    });
  }

  /** The uploads of this page, in the order they were added. */
  setUploads(uploads: Upload[]): void {
    const there = new Set(uploads.map((upload) => upload.file));
    for (const row of this.rows) {
      if (row.upload && !there.has(row.upload.file)) row.upload = null;
    }
    this.rows = this.rows.filter((row) => row.upload !== null || row.transcription !== null);
    for (const upload of uploads) this.#setUpload(upload);
  }

  #setUpload(upload: Upload): void {
    let row = this.rows.find((other) => other.upload?.file === upload.file);
    const same = upload.id === null ? undefined : this.#byId(upload.id);
    if (row && same && same !== row) {
      // The server's word came before ours.
      row.transcription = same.transcription;
      this.rows = this.rows.filter((other) => other !== same);
    }
    row ??= same;
    if (row) {
      row.upload = upload;
      return;
    }
    this.rows.unshift({ key: this.#nextKey(), upload, transcription: null });
  }

  #byId(id: string): Row | undefined {
    return this.rows.find((row) => idOf(row) === id);
  }

  #nextKey(): number {
    this.#keys += 1;
    return this.#keys;
  }
}
