// Who speaks, how much, and by which names.

import { element } from "../element.ts";
import { clock, spokenTime } from "../format.ts";
import { icon } from "../icon.ts";
import type { Layout } from "./layout.ts";
import { colour } from "./text.ts";
import "./speakers.css";

/** A label of the engine, as it is shown until somebody gives a name: "SPEAKER_00" → "Speaker 1". */
export function unnamed(label: string): string {
  const number = /^SPEAKER_(\d+)$/.exec(label)?.[1];
  return number === undefined ? label : `Speaker ${Number(number) + 1}`;
}

export interface Legend {
  element: HTMLElement;
  /** Write a speaker's name again. */
  rename(speaker: number): void;
}

/** `edit` is asked to let the reader change the name that stands in an element. */
export function legend(
  { speakers, spoken }: Layout,
  nameOf: (speaker: number) => string,
  edit: (speaker: number, shown: HTMLElement) => void,
): Legend {
  const all = spoken.reduce((sum, seconds) => sum + seconds, 0) || 1;
  const names = speakers.map((_, speaker) => element("span", { dir: "auto" }, nameOf(speaker)));
  const buttons = names.map((name, speaker) =>
    element(
      "button",
      { type: "button", class: "legend-name", onclick: () => edit(speaker, buttons[speaker]!) },
      name,
      icon("pencil", 16),
    ),
  );
  function label(speaker: number): void {
    buttons[speaker]!.ariaLabel = `Rename ${nameOf(speaker)}`;
  }
  const rows = speakers.map((_, speaker) => {
    label(speaker);
    const seconds = spoken[speaker]!;
    const share = `${Math.round((seconds / all) * 100)} %`;
    const row = element(
      "li",
      {},
      buttons[speaker],
      element(
        "span",
        { class: "legend-share" },
        element("span", { "aria-hidden": "true" }, `${clock(seconds)} · ${share}`),
        element("span", { class: "visually-hidden" }, `speaks for ${spokenTime(seconds)}, ${share}`),
      ),
      element("span", { class: "legend-bar", "aria-hidden": "true" }),
    );
    row.style.setProperty("--speaker", colour(speaker));
    row.style.setProperty("--share", String(seconds / all));
    return row;
  });
  return {
    element: element(
      "section",
      { class: "legend", "aria-labelledby": "speakers-heading" },
      element("h2", { id: "speakers-heading" }, "Speakers"),
      element("ul", {}, ...rows),
    ),
    rename(speaker) {
      names[speaker]!.textContent = nameOf(speaker);
      label(speaker);
    },
  };
}
