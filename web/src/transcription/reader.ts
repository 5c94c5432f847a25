// The transcript with its tools: search, copy, download, speakers; and playback's mark moving through it.

import { element } from "../element.ts";
import { icon } from "../icon.ts";
import { notice } from "../notice.ts";
import { copy, plainText, selectedIn } from "./copying.ts";
import { downloadMenu } from "./download-menu.ts";
import { findBar, type FindBar } from "./find-bar.ts";
import { Following, type FreePart } from "./following.ts";
import { Found } from "./found.ts";
import { editInPlace } from "./in-place.ts";
import { unmarkAll } from "./marks.ts";
import type { Playback } from "./playback.ts";
import type { Prepared } from "./prepare.ts";
import { legend, unnamed } from "./speakers.ts";
import { TranscriptText, type TextEvents } from "./text.ts";
import "./tools.css";

export interface Reader {
  tools: HTMLElement;
  text: HTMLElement;
  /** The speakers, null where none are told apart. */
  legend: HTMLElement | null;
  back: HTMLElement;
  find: FindBar;
  /** Show and mark the moment the recording stands at. */
  reveal(): Promise<void>;
}

export interface ReaderOptions {
  id: string;
  prepared: Prepared;
  playback: Playback;
  /** Names that were given, by label. */
  names: Record<string, string>;
  /** Give a name; answers with all that are given then. */
  save(label: string, name: string): Promise<Record<string, string>>;
  freePart: FreePart;
}

export function reader(options: ReaderOptions, signal: AbortSignal): Reader {
  const { id, prepared, playback } = options;
  const { layout } = prepared;
  let names = options.names;

  const nameOf = (speaker: number): string => {
    const label = layout.speakers[speaker]!;
    return names[label] || unnamed(label);
  };

  function edit(speaker: number, shown: HTMLElement): void {
    const label = layout.speakers[speaker]!;
    editInPlace(shown, {
      label: `Name of ${nameOf(speaker)}`,
      value: nameOf(speaker),
      save: async (name) => {
        names = await options.save(label, name);
        text.rename(speaker);
        speakers.rename(speaker);
      },
    });
  }

  const events: TextEvents = {
    name: edit,
    seek: (seconds) => playback.seek(seconds),
    play(seconds) {
      playback.seek(seconds);
      playback.play();
    },
  };
  const text = new TranscriptText(layout, nameOf, events, signal);
  const speakers = legend(layout, nameOf, edit);
  const following = new Following(text, playback, options.freePart, signal);
  const found = new Found(text, prepared.folded, signal);
  const find = findBar(found, {
    from: topmost,
    show() {
      void text.built.then(() => {
        const { place } = found;
        if (!place) return;
        following.reveal(place);
        following.leave();
      });
    },
    play() {
      const { moment } = found;
      if (moment !== null) events.play(moment);
    },
  });

  /** The first paragraph that can be seen. */
  function topmost(): number {
    const { top, bottom } = options.freePart();
    const { left, width } = text.element.getBoundingClientRect();
    for (let y = top + 4; y < bottom; y += 24) {
      const paragraph = text.paragraphAt(document.elementFromPoint(left + width / 2, y));
      if (paragraph >= 0) return paragraph;
    }
    return 0;
  }

  let selected = "";
  const copying = element(
    "button",
    {
      type: "button",
      class: "button button-quiet",
      "aria-label": "Copy",
      title: "Copy the selection, or all of it",
      // A press of the button may end the selection.
      onpointerdown: () => (selected = selectedIn(text.element)),
      onclick: () => void copyText(selected || selectedIn(text.element)),
    },
    icon("copy", 18),
    element("span", { class: "tool-name" }, "Copy"),
  );

  async function copyText(selection: string): Promise<void> {
    selected = "";
    const done = await copy(selection || plainText(layout, nameOf));
    if (!done) notice("The browser does not allow copying here. Download the transcript as text instead.");
    else notice(selection ? "The selection is copied." : "The transcript is copied.");
  }

  signal.addEventListener("abort", unmarkAll, { once: true });
  void text.built.then(() => !signal.aborted && following.begin());
  const silent = layout.paragraphs.length === 0;
  return {
    tools: element("div", { class: "tools" }, find.element, copying, downloadMenu(id)),
    text: silent ? element("p", { class: "nothing-said" }, "Nobody speaks in this recording.") : text.element,
    legend: layout.speakers.length > 0 ? speakers.element : null,
    back: following.button,
    find,
    async reveal() {
      await text.built;
      following.begin();
      following.back();
    },
  };
}
