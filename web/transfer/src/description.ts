import type { UploadOptions } from "./options.ts";
import { partSizeOf } from "./plan.ts";

/** What the server is told of a file, and what tells it from other files. */
export class Description {
  readonly name: string;
  /** MIME type; empty where it is not known. */
  readonly type: string;
  readonly metadata: Record<string, string | number | boolean>;
  /** All that makes it this upload and no other, but for the file's content. */
  readonly identity: unknown;

  constructor(file: Blob, { endpoint, name, type, metadata }: UploadOptions) {
    const own = file as Partial<File>;
    const { size } = file;
    this.name = name ?? own.name ?? "recording";
    this.type = type ?? file.type;
    this.metadata = { ...metadata, name: this.name, size, partSize: partSizeOf(size) };
    const told = Object.entries(metadata ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
    this.identity = [endpoint, this.name, size, this.type, own.lastModified ?? 0, told];
  }
}
