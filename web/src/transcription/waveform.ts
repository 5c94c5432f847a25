// The recording's shape, drawn by wavesurfer.js from the server's peaks: the recording is not downloaded.

import type WaveSurfer from "wavesurfer.js";

/** The document of BBC's audiowaveform (JSON, version 2): a lowest and a highest sample for every point. */
export interface Peaks {
  bits: 8 | 16;
  length: number;
  samples_per_pixel: number;
  sample_rate: number;
  data: number[];
}

export function secondsOf({ length, samples_per_pixel, sample_rate }: Peaks): number {
  return (length * samples_per_pixel) / sample_rate;
}

/** What is quieter than this is not drawn as high as there is room, or noise would look like speech. */
const QUIET = 0.08;

/** The highest and lowest samples apart, as shares of the loudest. */
export function shape({ bits, data }: Pick<Peaks, "bits" | "data">): [Float32Array, Float32Array] {
  const points = data.length >> 1;
  const highest = new Float32Array(points);
  const lowest = new Float32Array(points);
  let loudest = QUIET * 2 ** (bits - 1);
  for (const value of data) loudest = Math.max(loudest, Math.abs(value));
  for (let point = 0; point < points; point++) {
    lowest[point] = data[2 * point]! / loudest;
    highest[point] = data[2 * point + 1]! / loudest;
  }
  return [highest, lowest];
}

/** Draw into `host`, and keep the drawing at the media's position. Pointer and keyboard are the host's. */
export async function drawWaveform(
  host: HTMLElement,
  media: HTMLMediaElement,
  peaks: Peaks,
  signal: AbortSignal,
): Promise<void> {
  const { default: library } = await import("wavesurfer.js");
  if (signal.aborted) return;
  const nonce = document.querySelector<HTMLMetaElement>('meta[property="csp-nonce"]')?.nonce;
  const wave = library.create({
    container: host,
    media,
    peaks: shape(peaks),
    duration: secondsOf(peaks),
    height: "auto",
    barWidth: 2,
    barGap: 1,
    barRadius: 2,
    barMinHeight: 1,
    cursorWidth: 2,
    interact: false,
    dragToSeek: false,
    hideScrollbar: true,
    ...(nonce ? { cspNonce: nonce } : {}),
    ...colours(host),
  });
  // A media element that was sought before does not say so again.
  if (media.currentTime > 0) wave.setTime(media.currentTime);
  recolour(wave, host, signal);
  signal.addEventListener("abort", () => wave.destroy(), { once: true });
}

/** A canvas knows no custom properties: the host carries the colours where they can be read as computed. */
function colours(host: HTMLElement): { waveColor: string; progressColor: string; cursorColor: string } {
  const { color, caretColor } = getComputedStyle(host);
  return { waveColor: color, progressColor: caretColor, cursorColor: caretColor };
}

function recolour(wave: WaveSurfer, host: HTMLElement, signal: AbortSignal): void {
  const again = (): void => wave.setOptions(colours(host));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again, { signal });
  const chosen = new MutationObserver(again);
  chosen.observe(document.documentElement, { attributeFilter: ["data-scheme"] });
  signal.addEventListener("abort", () => chosen.disconnect(), { once: true });
}
