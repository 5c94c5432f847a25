/**
 * What a page with an Uppy on it lends the tests: files come in by its field, options by its address, and what
 * Uppy says is written down. Whatever the tests need beyond that they ask of `window.uppy` itself.
 */

/** Bytes in each part but the last. */
export const PART = 8 * 1024 ** 2;

/** What goes along with a file; `hotwords` and others are seldom set. */
export const KNOWN_FIELDS = ["name", "type", "size", "partSize", "language", "hotwords", "x-project"];

/** What the address asks for. */
export interface Asked {
  /** Under which `/s3/…` is. */
  readonly endpoint: string;
  /** Undefined leaves it to Uppy, by the file's size. */
  readonly multipart: boolean | undefined;
  /** Files sent at a time, or with Uppy 5 parts. */
  readonly limit: number;
  /** Options of the transcription. */
  readonly options: Readonly<Record<string, string>>;
  /** Largest file kept for after a reload, in bytes; zero does without Golden Retriever. */
  readonly keep: number;
}

export function asked(): Asked {
  const address = new URLSearchParams(location.search);
  const multipart = address.get("multipart");
  return {
    endpoint: address.get("endpoint") ?? "",
    multipart: multipart === null ? undefined : multipart === "true",
    limit: Number(address.get("limit") ?? 6),
    options: Object.fromEntries(
      [...address].flatMap(([name, value]) => (name.startsWith("meta-") ? [[name.slice(5), value]] : [])),
    ),
    keep: Number(address.get("keep") ?? 0),
  };
}

/** As much of an Uppy as both versions have, told without their types. */
interface AnyUppy {
  on(event: never, listener: (...details: never[]) => void): unknown;
  getState(): { readonly info?: readonly object[] };
}

type Listen = (event: string, listener: (...details: unknown[]) => void) => unknown;

declare global {
  interface Window {
    uppy: unknown;
    versions: Readonly<Record<string, string>>;
    heard: Record<string, unknown[]>;
  }
}

const EVENTS = [
  "restriction-failed",
  "s3-multipart:part-uploaded",
  "upload-success",
  "upload-error",
  "restored",
];

/** Give an Uppy to the tests. Of each event what can be told in JSON is kept, in `window.heard`. */
export function expose(uppy: AnyUppy, versions: Window["versions"], add: (file: File) => void): void {
  window.uppy = uppy;
  window.versions = versions;
  window.heard = Object.fromEntries([...EVENTS, "info-visible"].map((event) => [event, []]));
  const listen = uppy.on.bind(uppy) as unknown as Listen;
  for (const event of EVENTS) {
    listen(event, (...details) => window.heard[event]?.push(details.map(told)));
  }
  // What a Dashboard would show of it goes away again after some seconds.
  listen("info-visible", () => window.heard["info-visible"]?.push(told(uppy.getState().info)));
  document.querySelector("input")?.addEventListener("change", ({ target }) => {
    for (const file of (target as HTMLInputElement).files ?? []) {
      try {
        add(file);
      } catch {
        // Uppy throws what it has told in `restriction-failed`.
      }
    }
  });
}

function told(detail: unknown): unknown {
  if (detail instanceof Error) return { message: detail.message, name: detail.name };
  return JSON.parse(JSON.stringify(detail ?? null)) as unknown;
}
