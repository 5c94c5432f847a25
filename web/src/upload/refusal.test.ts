import { expect, test } from "vitest";
import type { Choices } from "../api.ts";
import { refusalOf } from "./refusal.ts";

const choices: Choices = {
  maxUploadBytes: 5 * 1024 ** 3,
  uploadIdleSeconds: 600,
  extensions: ["mp3", "wav", "3gp", "webm"],
  languages: [],
  models: [],
  defaultModel: "base",
};
const refusal = (name: string, type = "", size = 1): string | null =>
  refusalOf({ name, type, size }, choices);

test("recordings are taken, whatever their names look like", () => {
  expect(refusal("talk.MP3")).toBeNull();
  expect(refusal("clip.3gp")).toBeNull();
  expect(refusal("Talk 3.11.2026", "audio/mpeg")).toBeNull();
});

test("what is no recording is refused, and what is one is told", () => {
  expect(refusal("notes.txt", "text/plain")).toContain("Choose mp3, wav, webm");
  expect(refusal("Talk 3.11.2026")).toContain("no ending");
});

test("an empty file and one that is too large are refused by their size", () => {
  expect(refusal("a.wav", "", 0)).toContain("empty");
  expect(refusal("a.wav", "", 6 * 1024 ** 3)).toContain("is larger than 5 GB");
});
