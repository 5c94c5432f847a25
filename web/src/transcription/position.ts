// Where the recording stands: a slider for pointer and keyboard, with the waveform behind it if there is one.

import { element } from "../element.ts";
import { clock, spokenTime } from "../format.ts";
import type { Playback } from "./playback.ts";
import { drawWaveform, type Peaks } from "./waveform.ts";

const STEP_SECONDS = 5;
const PAGE_SHARE = 0.05;

export interface Position {
  element: HTMLElement;
  /** Draw the recording's shape instead of the plain track. */
  draw(peaks: Peaks): Promise<void>;
}

export function position(playback: Playback, signal: AbortSignal): Position {
  const wave = element("div", { class: "position-wave" });
  const bubble = element("div", { class: "position-bubble", hidden: true });
  const mark = element("div", { class: "position-mark", hidden: true });
  const slider = element(
    "div",
    { class: "position", role: "slider", tabIndex: 0, "aria-label": "Position", "aria-valuemin": "0" },
    element("div", { class: "position-track" }, element("div", { class: "position-done" })),
    wave,
    mark,
    bubble,
  );
  let dragging = false;
  let told = -1;

  function show(): void {
    const { at, duration } = playback;
    // The drawing shows it itself.
    if (!slider.classList.contains("drawn"))
      slider.style.setProperty("--share", String(duration > 0 ? Math.min(1, at / duration) : 0));
    const second = Math.floor(at);
    if (second === told && slider.ariaValueMax === String(Math.floor(duration))) return;
    told = second;
    slider.ariaValueMax = String(Math.floor(duration));
    slider.ariaValueNow = String(second);
    slider.ariaValueText = `${spokenTime(at)} of ${spokenTime(duration)}`;
  }

  function secondsAt(event: PointerEvent): number {
    const { left, width } = slider.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - left) / width));
    slider.style.setProperty("--pointed", String(share));
    return share * playback.duration;
  }

  function point(event: PointerEvent): void {
    bubble.textContent = clock(secondsAt(event));
    bubble.hidden = mark.hidden = playback.duration === 0;
  }

  function leave(): void {
    dragging = false;
    bubble.hidden = mark.hidden = true;
  }

  slider.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    dragging = true;
    slider.setPointerCapture(event.pointerId);
    point(event);
  });
  slider.addEventListener("pointermove", point);
  slider.addEventListener("pointerup", (event) => {
    // Only where the pointer is let go: every seek on the way would fetch a piece of the recording.
    if (dragging) playback.seek(secondsAt(event));
    dragging = false;
    if (event.pointerType !== "mouse") leave();
  });
  slider.addEventListener("pointercancel", leave);
  slider.addEventListener("pointerleave", () => !dragging && leave());
  slider.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const to = keyed(event.key, playback.at, playback.duration);
    if (to === null) return;
    event.preventDefault();
    playback.seek(to);
  });
  playback.addEventListener("moment", show, { signal });
  show();
  return {
    element: slider,
    async draw(peaks) {
      await drawWaveform(wave, playback.media, peaks, signal);
      slider.classList.add("drawn");
    },
  };
}

/** Where a key of a slider leads (WAI-ARIA practices), or null. */
function keyed(key: string, at: number, duration: number): number | null {
  const page = Math.max(STEP_SECONDS, duration * PAGE_SHARE);
  switch (key) {
    case "ArrowRight":
    case "ArrowUp":
      return at + STEP_SECONDS;
    case "ArrowLeft":
    case "ArrowDown":
      return at - STEP_SECONDS;
    case "PageUp":
      return at + page;
    case "PageDown":
      return at - page;
    case "Home":
      return 0;
    case "End":
      return duration;
    default:
      return null;
  }
}
