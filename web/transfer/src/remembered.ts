// Unfinished uploads, remembered in the browser, so that they go on after a reload. Several tabs may share
// the storage; what it refuses is remembered for as long as the page is there.

import type { Begun } from "./wire.ts";

const PREFIX = "transfer:";
const WEEK_MS = 7 * 24 * 3600 * 1000;
/** Looked at at the beginning and at the end of a file, to tell it from others of its name, size and time. */
const SAMPLE_BYTES = 64 * 1024;

interface Entry {
  begun: Begun;
  sample: string;
  /** When it was saved, in milliseconds of the clock. */
  at: number;
}

/** What no storage takes, so that a failed upload can be tried again all the same. */
const pageOnly = new Map<string, Entry>();

/** The memory of one file's upload. */
export class Remembered {
  readonly #storage: Storage | null;
  readonly #name: string;
  readonly #file: Blob;
  readonly #clock: () => number;
  #forgotten = new Set<string>();

  /** `identity` is all that makes it this file's upload and no other's, but for the file's content. */
  constructor(storage: Storage | null, identity: unknown, file: Blob, clock: () => number = Date.now) {
    this.#storage = storage;
    this.#name = PREFIX + JSON.stringify(identity);
    this.#file = file;
    this.#clock = clock;
  }

  /** What was begun and not finished. Removes all that is too old, whosever it is. */
  async find(): Promise<Begun | null> {
    this.#sweep();
    const entry = this.#read(this.#name);
    if (!entry) return null;
    const sample = await sampleOf(this.#file);
    return sample !== null && sample === entry.sample ? entry.begun : null;
  }

  async save(begun: Begun): Promise<void> {
    const sample = await sampleOf(this.#file);
    if (sample === null || this.#forgotten.has(begun.uploadId)) return;
    const entry: Entry = { begun, sample, at: this.#clock() };
    try {
      if (this.#storage) return this.#storage.setItem(this.#name, JSON.stringify(entry));
    } catch {
      // Full, or not allowed.
    }
    pageOnly.set(this.#name, entry);
  }

  /** Forget an upload, unless another one stands in its place. */
  forget(begun: Begun): void {
    this.#forgotten.add(begun.uploadId);
    if (this.#read(this.#name)?.begun.uploadId === begun.uploadId) this.#remove(this.#name);
  }

  #sweep(): void {
    const names: string[] = [];
    try {
      for (let place = 0; place < (this.#storage?.length ?? 0); place++) {
        const name = this.#storage?.key(place);
        if (name?.startsWith(PREFIX)) names.push(name);
      }
    } catch {
      return;
    }
    for (const name of names) {
      const entry = this.#read(name);
      if (!entry || this.#clock() - entry.at > WEEK_MS) this.#remove(name);
    }
  }

  #read(name: string): Entry | null {
    try {
      const entry = JSON.parse(this.#storage?.getItem(name) ?? "null") as Partial<Entry> | null;
      const begun = entry?.begun;
      const usable = begun?.uploadId && begun.key && begun.partSize > 0 && begun.expires > 0;
      if (usable && entry?.sample && entry.at) return entry as Entry;
    } catch {
      // Not ours, or not allowed.
    }
    return pageOnly.get(name) ?? null;
  }

  #remove(name: string): void {
    pageOnly.delete(name);
    try {
      this.#storage?.removeItem(name);
    } catch {
      // It will be too old before long.
    }
  }
}

/** The page's own storage; null where it is forbidden. */
export function ownStorage(): Storage | null {
  try {
    return localStorage;
  } catch {
    return null;
  }
}

/** A fingerprint of a file's beginning and end; null if it cannot be read. */
export async function sampleOf(file: Blob): Promise<string | null> {
  const ends = [file.slice(0, SAMPLE_BYTES), file.slice(Math.max(0, file.size - SAMPLE_BYTES))];
  let [one, other] = [0x811c9dc5, 0x9e3779b9];
  try {
    for (const end of ends) {
      for (const byte of new Uint8Array(await end.arrayBuffer())) {
        // FNV-1a, and the same with another start and multiplier.
        one = Math.imul(one ^ byte, 0x01000193);
        other = Math.imul(other ^ byte, 0x85ebca6b);
      }
    }
  } catch {
    return null;
  }
  return [one, other].map((half) => (half >>> 0).toString(16).padStart(8, "0")).join("");
}
