// What a row says about itself: its state in words, with a drawing and a colour that say the same.

import type { Transcription } from "../api.ts";
import { bytes, language, length, timeLeft } from "../format.ts";
import type { IconName } from "../icon.ts";
import type { Upload } from "../upload/uploads.ts";
import type { Row } from "./rows.ts";

export interface Status {
  words: string[];
  /** How much of a file has been sent; beside the words, for it changes all the time. */
  amount?: string;
  icon: IconName;
  tone: "active" | "quiet" | "good" | "warn" | "bad";
  /** Of the bar: null for none, -1 for one that moves without saying how far. */
  percent: number | null;
}

const STAGES: Record<string, string> = {
  starting: "Starting",
  waiting: "Waiting for the worker",
  loading: "Loading the model",
  fetching: "Fetching the recording",
  decoding: "Reading the recording",
  language: "Finding out the language",
  transcribing: "Transcribing",
  aligning: "Placing the words",
  diarizing: "Telling speakers apart",
  saving: "Saving the transcript",
};

const WAITING = {
  offline: "Waiting for the network",
  server: "Waiting for the server",
  bucket: "Waiting for the bucket",
};

export function statusOf({ upload, transcription }: Row): Status {
  // What is further at the server than here is over here.
  const over = transcription !== null && !["uploading", "completing"].includes(transcription.state);
  if (upload && !over) return ofUpload(upload);
  if (transcription) return ofTranscription(transcription);
  return { words: [], icon: "clock", tone: "quiet", percent: null };
}

/** How all uploads of the page are getting on, in one line; null if that says no more than a row does. */
export function summaryOf(uploads: Upload[]): string | null {
  const under = uploads.filter(({ phase }) => ["sending", "queued", "paused"].includes(phase));
  if (under.length < 2) return null;
  const size = under.reduce((sum, upload) => sum + upload.size, 0);
  const sent = under.reduce((sum, upload) => sum + upload.sent, 0);
  const sending = under.filter(({ phase, waiting }) => phase !== "paused" && waiting === null);
  const speed = sending.reduce((sum, upload) => sum + (upload.bytesPerSecond ?? 0), 0);
  const words = [`${under.length} uploads`, `${percentOf(under)} %`, `${bytes(sent)} of ${bytes(size)}`];
  if (speed > 0) {
    const left = sending.reduce((sum, upload) => sum + upload.size - upload.sent, 0);
    words.push(`${bytes(speed)}/s`, timeLeft(left / speed));
  }
  return words.join(" · ");
}

/** How much of these has been sent, in whole percent. */
export function percentOf(uploads: Upload[]): number {
  const size = uploads.reduce((sum, upload) => sum + upload.size, 0);
  const sent = uploads.reduce((sum, upload) => sum + upload.sent, 0);
  return size > 0 ? Math.floor((100 * sent) / size) : 0;
}

function ofUpload(upload: Upload): Status {
  const share = upload.size > 0 ? Math.min(upload.sent / upload.size, 1) : 0;
  const percent = Math.floor(share * 100);
  const shown = share * 100;
  switch (upload.phase) {
    case "queued":
      return { words: ["Next in line"], amount: amount(upload), icon: "up", tone: "quiet", percent: shown };
    case "paused":
      return { words: ["Paused"], amount: amount(upload), icon: "pause", tone: "quiet", percent: shown };
    case "failed":
      return { words: [upload.error ?? "The upload failed."], icon: "alert", tone: "bad", percent: null };
    case "missing":
      return {
        words: [`Interrupted at ${percent} %`, "choose the file again to go on"],
        amount: amount(upload),
        icon: "pause",
        tone: "warn",
        percent: shown,
      };
    case "sent":
      return { words: ["Checking the recording"], icon: "up", tone: "active", percent: -1 };
    case "sending":
      break;
  }
  const sending = { amount: amount(upload), icon: "up", tone: "active" } as const;
  if (upload.waiting) {
    return { ...sending, words: [WAITING[upload.waiting]], icon: "clock", tone: "warn", percent: shown };
  }
  if (upload.sent === 0) {
    // Begun at the server, and others have the line.
    if (upload.id !== null) return { ...sending, words: ["Next in line"], tone: "quiet", percent: 0 };
    return { ...sending, words: ["Starting the upload"], percent: -1 };
  }
  if (upload.sent >= upload.size) return { ...sending, words: ["Putting the parts together"], percent: -1 };
  const words = [`${percent} %`];
  if (upload.bytesPerSecond) words.push(`${bytes(upload.bytesPerSecond)}/s`);
  if (upload.secondsLeft !== null) words.push(timeLeft(upload.secondsLeft));
  return { ...sending, words, percent: shown };
}

function amount(upload: Upload): string {
  return `${bytes(upload.sent)} of ${bytes(upload.size)}`;
}

function ofTranscription(transcription: Transcription): Status {
  const { state, progress, error } = transcription;
  switch (state) {
    case "uploading":
      return {
        words: ["Uploading elsewhere, or interrupted", "to go on, send the same file from where it was begun"],
        icon: "up",
        tone: "quiet",
        percent: null,
      };
    case "completing":
      return { words: ["Checking the recording"], icon: "up", tone: "active", percent: -1 };
    case "queued":
      return { words: ["Waiting in the queue"], icon: "clock", tone: "quiet", percent: null };
    case "running": {
      const stage = progress ? (STAGES[progress.stage] ?? capital(progress.stage)) : "Starting";
      const counted = progress !== null && progress.percent > 0;
      const words = [counted ? `${stage} ${progress.percent} %` : stage];
      if (progress && progress.seconds_left !== null) words.push(timeLeft(progress.seconds_left));
      return { words, icon: "wave", tone: "active", percent: counted ? progress.percent : -1 };
    }
    case "completed": {
      const words = ["Ready"];
      if (transcription.language) words.push(language(transcription.language));
      if (transcription.duration !== null) words.push(length(transcription.duration));
      const warnings = transcription.warnings.length;
      if (warnings > 0) words.push(warnings === 1 ? "1 warning" : `${warnings} warnings`);
      return { words, icon: "check", tone: "good", percent: null };
    }
    case "failed": {
      const words = [`Failed: ${error?.message ?? "the server gave no reason. Try again."}`];
      if (transcription.partial) words.push("there is a transcript up to there");
      return { words, icon: "alert", tone: "bad", percent: null };
    }
    case "canceled":
      return { words: ["Canceled"], icon: "stop", tone: "quiet", percent: null };
    case "expired":
      return {
        words: ["Expired: nothing was sent for too long. Upload it again."],
        icon: "clock",
        tone: "warn",
        percent: null,
      };
  }
}

function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
