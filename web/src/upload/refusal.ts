// What is not worth sending: judged here by name, type and size, so that nobody waits for the server's no.

import type { Choices } from "../api.ts";
import { bytes } from "../format.ts";

// A date ("Talk 3.11.2026") or the end of a sentence is no extension; the server reads names the same way.
const EXTENSION = /\.(?=[0-9]*[a-z])([a-z0-9]{1,8})$/i;
const COMMON = ["mp3", "m4a", "wav", "flac", "ogg", "mp4", "mov", "mkv", "webm"];

export interface Offered {
  name: string;
  type: string;
  size: number | null;
}

/** Why a file is not taken and what is, in words that follow its name; null if it is. */
export function refusalOf(file: Offered, choices: Choices): string | null {
  const accepted = COMMON.filter((extension) => choices.extensions.includes(extension)).join(", ");
  const extension = EXTENSION.exec(file.name.trim())?.[1]?.toLowerCase();
  if (extension && !choices.extensions.includes(extension)) {
    return `is not a recording: .${extension} is neither audio nor video. Choose ${accepted} or the like.`;
  }
  if (!extension && !/^(audio|video)\//.test(file.type)) {
    return `has no ending that says what it is. Name it after what it is: ${accepted} or the like.`;
  }
  if (file.size === 0) return "is empty. Record or export it again, then choose it anew.";
  if (file.size !== null && file.size > choices.maxUploadBytes) {
    const limit = bytes(choices.maxUploadBytes);
    return `is larger than ${limit}, the most that is taken. Split it, or keep only its sound.`;
  }
  return null;
}
