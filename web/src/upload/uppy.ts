// Uppy, put together: where files come from, what is remembered of them, and our own transfer.

import Audio from "@uppy/audio";
import Uppy, { type UppyFile } from "@uppy/core";
import Dashboard from "@uppy/dashboard";
import GoldenRetriever from "@uppy/golden-retriever";
import { Transfer } from "@bucketscribe/transfer";
import type { Choices } from "../api.ts";
import type { Options } from "./options.ts";
import { recordingName } from "./recording-name.ts";
import { refusalOf } from "./refusal.ts";

// As type aliases, for only these have the index signature that Uppy asks for.
export type FileMeta = { name: string; type?: string; relativePath?: string | null; transcription?: Options };
export type FileAnswer = { id?: string; state?: string };
export type PageUppy = Uppy<FileMeta, FileAnswer>;
export type PageFile = UppyFile<FileMeta, FileAnswer>;

/** Files up to this size survive a restart of the browser; larger ones must be chosen again to go on. */
export const KEPT_BYTES = 64 * 1024 ** 2;
const KEPT = { name: "uppy-blobs", maxFileSize: KEPT_BYTES, maxTotalSize: 512 * 1024 ** 2 };

/** A page that was reloaded has to wait for itself: the browser ends the old one in its own time. */
const LOCK_SECONDS = 5;

// What goes wrong is told in the rows.
const SILENT = { debug: () => {}, warn: () => {}, error: () => {} };

export interface Wiring {
  owner: string;
  choices: Choices;
  /** The options for what is being added now. */
  options: () => Options;
  refused: (name: string, reason: string) => void;
}

export function pageUppy({ owner, choices, options, refused }: Wiring): PageUppy {
  const uppy = new Uppy<FileMeta, FileAnswer>({
    id: `bucketscribe-${owner}`,
    logger: SILENT,
    restrictions: {
      maxFileSize: choices.maxUploadBytes,
      allowedFileTypes: ["audio/*", "video/*", ...choices.extensions.map((extension) => `.${extension}`)],
    },
    onBeforeFileAdded(file, files) {
      const name = file.source === "Audio" ? recordingName(new Date(), file.extension) : file.name;
      const there = files[file.id];
      if (there && !there.isGhost) {
        if (there.progress.uploadComplete) refused(name, "has just been sent, and is in the list below.");
        else if (there.error) refused(name, "is in the list already. Press Try again there.");
        else refused(name, "is being sent already.");
        return false;
      }
      const reason = refusalOf({ name, type: file.type, size: file.size }, choices);
      if (reason) {
        refused(name, reason);
        return false;
      }
      // What goes on where it was keeps the options that it began with.
      if (there) return file;
      return { ...file, name, meta: { ...file.meta, name, transcription: options() } };
    },
  });
  keepAdded(uppy);
  return uppy.use(Transfer<FileMeta, FileAnswer>, {
    endpoint: "",
    metadata: (file) => ({ ...file.meta.transcription }),
  });
}

/** The drop area, with the microphone where there can be one. */
export function showDashboard(uppy: PageUppy, target: HTMLElement, maxSize: string): void {
  const pointer = matchMedia("(hover: hover)").matches;
  uppy.use(Dashboard, {
    target,
    inline: true,
    width: "100%",
    height: "",
    theme: "light",
    showSelectedFiles: false,
    disableStatusBar: true,
    disableInformer: true,
    disableThumbnailGenerator: true,
    proudlyDisplayPoweredByUppy: false,
    note: `Audio or video, up to ${maxSize} each`,
    locale: {
      strings: {
        dashboardTitle: "",
        dropHint: "Drop them here",
        browseFiles: pointer ? "choose files" : "Choose files",
        dropPasteFiles: pointer ? "Drop recordings here or %{browseFiles}" : "%{browseFiles}",
        dropPasteImportFiles: pointer ? "Drop recordings here, %{browseFiles} or" : "%{browseFiles} or",
        importFrom: "%{name}",
        cancel: "Close",
      },
    },
  });
  if (navigator.mediaDevices && "MediaRecorder" in window) {
    uppy.use(Audio, {
      target: Dashboard,
      locale: {
        strings: {
          pluginNameAudio: "Record",
          startAudioRecording: "Start recording",
          stopAudioRecording: "Stop recording",
          submitRecordedFile: "Upload the recording",
          discardRecordedFile: "Discard the recording",
          allowAudioAccessTitle: "Allow the microphone",
          allowAudioAccessDescription: "The browser asks whether this page may use it.",
          noAudioTitle: "No microphone",
          noAudioDescription: "Connect one, or allow this page to use it in the browser's settings.",
        },
      },
    });
  }
}

/**
 * Remember uploads beyond this page; whether it does. Of several open pages the first one does: two that
 * restore the same upload would both send it.
 */
export async function remember(uppy: PageUppy): Promise<boolean> {
  const install = (): void => {
    uppy.use(GoldenRetriever, { indexedDB: KEPT });
  };
  return new Promise((resolve) => {
    navigator.locks
      .request(uppy.getID(), { signal: AbortSignal.timeout(LOCK_SECONDS * 1000) }, () => {
        install();
        resolve(true);
        // Held for as long as the page is there.
        return new Promise(() => {});
      })
      .catch(() => resolve(false));
  });
}

/** What is restored takes the place of all files there are: those that were added before are put back. */
function keepAdded(uppy: PageUppy): void {
  let before: Record<string, PageFile> = {};
  uppy.on("state-update", (previous) => (before = previous.files));
  // Right after the last update, which was the restoring one.
  uppy.on("restored", () => {
    if (Object.keys(before).length > 0) uppy.setState({ files: { ...uppy.getState().files, ...before } });
  });
}
