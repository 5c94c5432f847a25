// What can be done with a row, by the state it is in.

import { isRepeatable, Problem, request, type Transcription } from "../api.ts";
import { element } from "../element.ts";
import { notice } from "../notice.ts";
import type { Upload, Uploads } from "../upload/uploads.ts";
import type { Deletions } from "./deletions.ts";
import type { Action } from "./row.ts";
import type { Row } from "./rows.ts";

/** `changed` takes what the server answered. */
export function actionsFor(
  uploads: Uploads,
  deletions: Deletions,
  changed: (transcription: Transcription) => void,
): (row: Row) => Action[] {
  async function ask(transcription: Transcription, what: "cancel" | "retry"): Promise<void> {
    try {
      const path = `/transcriptions/${transcription.id}/${what}`;
      changed(await request<Transcription>(path, { method: "POST" }));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      notice(error.message);
    }
  }

  return ({ upload, transcription }) => {
    const over = transcription !== null && !["uploading", "completing"].includes(transcription.state);
    if (upload && !over) return ofUpload(upload, uploads);
    if (!transcription) return [];
    const { id } = transcription;
    const cancel: Action = { label: "Cancel", icon: "close", run: () => void ask(transcription, "cancel") };
    const retry: Action = {
      label: "Retry",
      icon: "again",
      first: true,
      run: () => void ask(transcription, "retry"),
    };
    const remove: Action = {
      label: "Delete",
      icon: "trash",
      run: () => deletions.delete(id, transcription.name),
    };
    switch (transcription.state) {
      case "uploading":
      case "completing":
      case "queued":
      case "running":
        return [cancel];
      case "failed":
      case "canceled":
        return isRepeatable(transcription) ? [retry, remove] : [remove];
      case "completed":
      case "expired":
        return [remove];
    }
  };
}

function ofUpload(upload: Upload, uploads: Uploads): Action[] {
  const { file } = upload;
  const cancel: Action = { label: "Cancel", icon: "close", run: () => uploads.cancel(file) };
  switch (upload.phase) {
    case "queued":
    case "sending":
      return [{ label: "Pause", icon: "pause", run: () => uploads.pause(file) }, cancel];
    case "paused":
      return [{ label: "Resume", icon: "resume", run: () => uploads.resume(file) }, cancel];
    case "failed":
      return [{ label: "Try again", icon: "again", first: true, run: () => uploads.resume(file) }, cancel];
    case "missing":
      return [
        { label: "Choose file", icon: "file", first: true, run: () => chooseAgain(upload, uploads) },
        cancel,
      ];
    case "sent":
      return [];
  }
}

function chooseAgain(upload: Upload, uploads: Uploads): void {
  const input = element("input", { type: "file" });
  input.addEventListener("change", () => {
    const chosen = input.files?.[0];
    if (!chosen || uploads.choose(upload.file, chosen)) return;
    notice(`That is another file. Choose ${upload.name} as it was, or cancel it and add the new one.`);
  });
  input.click();
}
