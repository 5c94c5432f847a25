// The player's bar: everything one does with the recording itself.

import { element } from "../element.ts";
import { clock } from "../format.ts";
import { icon, type IconName } from "../icon.ts";
import { SPEEDS, type Playback } from "./playback.ts";
import { position } from "./position.ts";
import type { Peaks } from "./waveform.ts";
import "./player.css";

export const SKIP_SECONDS = 10;

export interface Player {
  element: HTMLElement;
  draw(peaks: Peaks): Promise<void>;
}

/** `copyLink` is asked to copy the address of the moment that is heard. */
export function player(playback: Playback, copyLink: () => void, signal: AbortSignal): Player {
  const { media } = playback;
  const slider = position(playback, signal);
  const toggle = button("Play", "play", () => playback.toggle());
  toggle.classList.add("player-toggle");
  const now = element("span", {}, clock(0));
  const all = element("span", { class: "player-all" });
  const problem = element("p", { class: "player-problem", role: "alert", hidden: true });
  const bar = element(
    "section",
    { class: "player", "aria-label": "Player" },
    slider.element,
    problem,
    element(
      "div",
      { class: "player-controls" },
      toggle,
      skip("Back 10 seconds", "back", () => playback.seek(playback.at - SKIP_SECONDS)),
      skip("Forward 10 seconds", "forward", () => playback.seek(playback.at + SKIP_SECONDS)),
      element("p", { class: "player-time" }, now, all),
      element("span", { class: "player-gap" }),
      speed(playback),
      volume(playback, signal),
      button("Copy link to this moment", "link", copyLink),
    ),
  );

  const showLength = (): void => {
    set(all, playback.duration > 0 ? ` / ${clock(playback.duration)}` : "");
  };
  showLength();
  const show = (): void => {
    toggle.replaceChildren(icon(playback.playing ? "pause" : "play"));
    toggle.ariaLabel = toggle.title = playback.playing ? "Pause" : "Play";
  };
  for (const type of ["play", "pause", "ended", "emptied"]) media.addEventListener(type, show, { signal });
  playback.addEventListener(
    "moment",
    () => {
      set(now, clock(playback.at));
      showLength();
    },
    { signal },
  );
  playback.addEventListener(
    "problem",
    () => {
      problem.textContent = playback.problem;
      problem.hidden = playback.problem === null;
    },
    { signal },
  );
  return { element: bar, draw: slider.draw };
}

// Sixty times a second: only what has changed is written.
function set(place: HTMLElement, text: string): void {
  if (place.textContent !== text) place.textContent = text;
}

function button(label: string, drawing: IconName, press: () => void): HTMLButtonElement {
  return element(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, onclick: press },
    icon(drawing),
  );
}

function skip(label: string, drawing: IconName, press: () => void): HTMLButtonElement {
  const made = button(label, drawing, press);
  made.classList.add("player-skip");
  made.append(element("span", { "aria-hidden": "true" }, "10"));
  return made;
}

function speed(playback: Playback): HTMLElement {
  const select = element(
    "select",
    {
      class: "player-speed",
      "aria-label": "Speed",
      title: "Speed",
      onchange: () => (playback.speed = Number(select.value)),
    },
    ...SPEEDS.map((value) =>
      element("option", { value: String(value), selected: value === playback.speed }, `${value}×`),
    ),
  );
  return select;
}

function volume(playback: Playback, signal: AbortSignal): HTMLElement {
  const { media } = playback;
  const mute = button("Mute", "volume", () => (media.muted = !media.muted));
  const level = element("input", {
    type: "range",
    min: "0",
    max: "1",
    step: "0.05",
    value: String(media.volume),
    "aria-label": "Volume",
    oninput: () => (playback.volume = Number(level.value)),
  });
  const show = (): void => {
    const silent = media.muted || media.volume === 0;
    mute.replaceChildren(icon(silent ? "muted" : "volume"));
    mute.ariaLabel = mute.title = media.muted ? "Unmute" : "Mute";
    level.value = String(media.muted ? 0 : media.volume);
  };
  media.addEventListener("volumechange", show, { signal });
  show();
  return element("div", { class: "player-volume" }, mute, level);
}
