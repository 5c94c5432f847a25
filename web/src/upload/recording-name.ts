// Names for what is recorded with the microphone, which has none of its own.

/** "Recording 2026-11-21 15.04.05.webm": sorts by time, and is a file name everywhere. */
export function recordingName(at: Date, extension: string): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const time = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(".");
  return `Recording ${day} ${time}.${extension}`;
}
