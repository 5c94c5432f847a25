import { expect, test } from "vitest";
import type { Transcription } from "../api.ts";
import { statusOf } from "./status.ts";

test("an upload that this page does not know is said to go on where it was begun, and not here", () => {
  const transcription = { id: "1", name: "talk.wav", state: "uploading" } as Transcription;
  const { words } = statusOf({ key: 1, upload: null, transcription });
  expect(words).toEqual([
    "Uploading elsewhere, or interrupted",
    "to go on, send the same file from where it was begun",
  ]);
});
