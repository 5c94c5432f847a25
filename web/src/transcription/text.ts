// The transcript as a document: a paragraph is a time, perhaps a name, and one piece of text.
//
// The browser lays out only the groups of them that are near the window (`content-visibility`), and still
// finds, selects and copies everything. They are made in slices, so that the first are there at once.

import { element } from "../element.ts";
import { clock } from "../format.ts";
import type { Layout } from "./layout.ts";
import type { Place } from "./marks.ts";
import { wordAt } from "./moments.ts";
import "./text.css";

const SLICE_MILLISECONDS = 8;

/** Paragraphs that are laid out together: for each one alone, the browser would watch too many. */
const GROUP = 8;
const FIRST_GROUPS = 3;

/** Roughly how wide a letter is, as a share of the type's size; only estimates of heights hang on it. */
const LETTER = 0.47;

export interface TextEvents {
  /** The reader wants to go there, and, with `play`, to hear it. */
  seek(seconds: number): void;
  play(seconds: number): void;
  /** The reader has chosen a speaker's name. */
  name(speaker: number, shown: HTMLElement): void;
}

export class TranscriptText {
  readonly element = element("div", { class: "paragraphs" });
  /** Every paragraph is in the document. */
  readonly built: Promise<void>;
  readonly layout: Layout;
  readonly #nameOf: (speaker: number) => string;
  readonly #events: TextEvents;
  /** Groups in the document; group g has the paragraphs from `GROUP * g` on. */
  readonly groups: HTMLElement[] = [];
  readonly #rows: HTMLElement[] = [];
  readonly #names: HTMLElement[][] = [];
  #focusable = 0;

  constructor(layout: Layout, nameOf: (speaker: number) => string, events: TextEvents, signal: AbortSignal) {
    this.layout = layout;
    this.#nameOf = nameOf;
    this.#events = events;
    this.element.addEventListener("click", (event) => this.#clicked(event));
    this.element.addEventListener("keydown", (event) => this.#keyed(event));
    this.element.addEventListener("focusin", ({ target }) => this.#focused(target));
    this.built = this.#build(signal);
  }

  row(paragraph: number): HTMLElement | undefined {
    return this.#rows[paragraph];
  }

  place(paragraph: number, from: number, to: number): Place | null {
    const text = this.#rows[paragraph]?.lastElementChild?.firstChild;
    return text instanceof Text ? { text, from, to } : null;
  }

  /** Write a speaker's name, wherever it stands. */
  rename(speaker: number): void {
    for (const shown of this.#names[speaker] ?? []) shown.textContent = this.#nameOf(speaker);
  }

  /** The paragraphs of a group. */
  inGroup(group: number): number[] {
    const count = this.groups[group]?.childElementCount ?? 0;
    return Array.from({ length: count }, (_, i) => group * GROUP + i);
  }

  /** The paragraph an element is in, or -1. */
  paragraphAt(target: EventTarget | null): number {
    const row = target instanceof Element ? target.closest<HTMLElement>(".paragraph") : null;
    return row ? Number(row.dataset["paragraph"]) : -1;
  }

  async #build(signal: AbortSignal): Promise<void> {
    const count = Math.ceil(this.layout.paragraphs.length / GROUP);
    let columns = 60;
    while (this.groups.length < count && !signal.aborted) {
      const until = performance.now() + SLICE_MILLISECONDS;
      const least = Math.min(count, this.groups.length + FIRST_GROUPS);
      const slice = document.createDocumentFragment();
      while (this.groups.length < least || (this.groups.length < count && performance.now() < until)) {
        slice.append(this.#makeGroup(columns));
      }
      const first = this.element.childElementCount === 0;
      this.element.append(slice);
      await soon();
      if (first) columns = this.#columns();
    }
  }

  #makeGroup(columns: number): HTMLElement {
    const from = this.groups.length * GROUP;
    const paragraphs = this.layout.paragraphs.slice(from, from + GROUP);
    const rows = paragraphs.map((_, i) => this.#make(from + i));
    const lines = paragraphs.reduce((sum, { text }) => sum + Math.ceil((text.length + 4) / columns), 0);
    const group = element("div", { class: "group" }, ...rows);
    group.style.setProperty("--lines", String(lines));
    group.style.setProperty("--rows", String(rows.length));
    group.style.setProperty("--turns", String(rows.filter((row) => row.classList.contains("turn")).length));
    this.groups.push(group);
    return group;
  }

  #make(paragraph: number): HTMLElement {
    const { text, start, speaker } = this.layout.paragraphs[paragraph]!;
    const moment = element(
      "button",
      {
        type: "button",
        class: "moment",
        tabIndex: paragraph === this.#focusable ? 0 : -1,
        "aria-label": `Play from ${clock(start)}`,
      },
      clock(start),
    );
    const turns = speaker >= 0 && this.layout.paragraphs[paragraph - 1]?.speaker !== speaker;
    const row = element(
      "div",
      { class: "paragraph", "data-paragraph": paragraph },
      moment,
      turns ? this.#name(speaker) : null,
      element("p", { dir: "auto" }, text),
    );
    if (turns) row.classList.add("turn");
    this.#rows[paragraph] = row;
    return row;
  }

  #name(speaker: number): HTMLElement {
    const name = element("span", { dir: "auto" }, this.#nameOf(speaker));
    (this.#names[speaker] ??= []).push(name);
    const shown = element(
      "button",
      { type: "button", class: "speaker", tabIndex: -1, title: "Rename", "data-speaker": speaker },
      name,
    );
    shown.style.setProperty("--speaker", colour(speaker));
    return shown;
  }

  /** Letters that fit into a line, for the heights of paragraphs that were never laid out. */
  #columns(): number {
    const text = this.#rows[0]?.lastElementChild;
    if (!text) return 60;
    return Math.max(20, text.clientWidth / (parseFloat(getComputedStyle(text).fontSize) * LETTER));
  }

  #clicked(event: MouseEvent): void {
    if (!(event.target instanceof Element)) return;
    const paragraph = this.paragraphAt(event.target);
    if (paragraph < 0) return;
    const speaker = event.target.closest<HTMLElement>(".speaker");
    if (speaker) return this.#events.name(Number(speaker.dataset["speaker"]), speaker);
    if (event.target.closest(".moment")) return this.#events.play(this.layout.paragraphs[paragraph]!.start);
    // What ends a selection is no wish to move.
    if (!event.target.closest("p") || getSelection()?.isCollapsed === false) return;
    const offset = offsetAt(event, this.#rows[paragraph]!);
    if (offset !== null) this.#events.seek(this.layout.words.start[wordAt(this.layout, paragraph, offset)]!);
  }

  #keyed(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const paragraph = this.paragraphAt(event.target);
    const to = { ArrowDown: paragraph + 1, ArrowUp: paragraph - 1, Home: 0, End: this.#rows.length - 1 }[
      event.key
    ];
    if (paragraph < 0 || to === undefined || event.target instanceof HTMLInputElement) return;
    event.preventDefault();
    this.focus(to);
  }

  /** Put the keyboard's focus on a paragraph's time. */
  focus(paragraph: number): void {
    const moment = this.#rows[paragraph]?.querySelector<HTMLElement>(".moment");
    moment?.focus();
    moment?.scrollIntoView({ block: "nearest" });
  }

  #focused(target: EventTarget | null): void {
    const paragraph = this.paragraphAt(target);
    if (paragraph < 0 || paragraph === this.#focusable) return;
    this.#rows[this.#focusable]?.querySelector(".moment")?.setAttribute("tabindex", "-1");
    this.#focusable = paragraph;
    this.#rows[paragraph]?.querySelector(".moment")?.setAttribute("tabindex", "0");
  }
}

/** One of the eight colours of speakers; after that they come again, and the name tells them apart. */
export function colour(speaker: number): string {
  return `var(--speaker-${(speaker % 8) + 1})`;
}

/** The offset into a row's text under the pointer, or null beside it. */
function offsetAt({ clientX, clientY }: MouseEvent, row: HTMLElement): number | null {
  const text = row.lastElementChild?.firstChild;
  const caret = document.caretPositionFromPoint?.(clientX, clientY);
  if (caret) return caret.offsetNode === text ? caret.offset : null;
  // WebKit's own, of before the standard.
  const range = document.caretRangeFromPoint?.(clientX, clientY);
  return range && range.startContainer === text ? range.startOffset : null;
}

/** When the browser has had its turn. */
function soon(): Promise<void> {
  const scheduler = (globalThis as { scheduler?: { yield?: () => Promise<void> } }).scheduler;
  return scheduler?.yield?.() ?? new Promise((resolve) => setTimeout(resolve));
}
