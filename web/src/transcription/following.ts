// Keeps what is being said in view, until the reader looks elsewhere, and again when they come back.

import { element } from "../element.ts";
import { icon } from "../icon.ts";
import { mark, type Place } from "./marks.ts";
import { isSaid, paragraphOf, wordBegun } from "./moments.ts";
import type { Playback } from "./playback.ts";
import type { TranscriptText } from "./text.ts";

/** A scroll of ours is over when the browser says so, and after so long where it does not. */
const SCROLL_MILLISECONDS = 1000;
const MOST_LOOKS = 6;
const WANTED_SHARE = 0.3;
const LOWEST_SHARE = 0.7;

/** What hides part of the window: the free part is between `top` and `bottom`, in pixels from its top. */
export type FreePart = () => { top: number; bottom: number };

export class Following {
  /** "Back to the playing moment", there while the reader is elsewhere. */
  readonly button: HTMLButtonElement;
  readonly #text: TranscriptText;
  readonly #playback: Playback;
  readonly #freePart: FreePart;
  #word = -1;
  #said = false;
  #paragraph = -1;
  #away = false;
  #ours = 0;
  /** Nobody has played it or gone anywhere: then the page stays where it opened. */
  #begun = false;

  constructor(text: TranscriptText, playback: Playback, freePart: FreePart, signal: AbortSignal) {
    this.#text = text;
    this.#playback = playback;
    this.#freePart = freePart;
    this.button = element(
      "button",
      { type: "button", class: "button back-to-playing", hidden: true, onclick: () => this.back() },
      icon("wave", 18),
      "Back to the playing moment",
    );
    playback.addEventListener("moment", () => this.#moved(), { signal });
    playback.addEventListener(
      "sought",
      () => {
        this.#begun = true;
        this.#setAway(false);
      },
      { signal },
    );
    addEventListener("scroll", () => this.#scrolled(), { signal, passive: true });
    addEventListener("scrollend", () => (this.#ours = 0), { signal });
  }

  back(): void {
    this.#setAway(false);
    const at = this.#place();
    if (at) this.reveal(at);
  }

  /** Bring a place into the window's free part. */
  reveal({ text, from, to }: Place): void {
    const range = document.createRange();
    range.setStart(text, from);
    range.setEnd(text, to);
    let looks = 0;
    let far = false;
    const look = (): void => {
      const box = range.getBoundingClientRect();
      const { top, bottom } = this.#freePart();
      const by = box.top - (top + (bottom - top) * WANTED_SHARE);
      if (Math.abs(by) < 2 || ++looks > MOST_LOOKS) return;
      far ||= Math.abs(by) > innerHeight;
      this.#ours = performance.now() + SCROLL_MILLISECONDS;
      scrollBy({
        top: by,
        behavior: far || matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth",
      });
      // Paragraphs on the way there had estimated heights, which are mended as they are laid out.
      if (far) requestAnimationFrame(() => requestAnimationFrame(look));
    };
    look();
  }

  /** The reader was brought elsewhere: playback does not pull them back. */
  leave(): void {
    this.#setAway(!this.#inView());
  }

  /** Begin where the recording stands, before it is played. */
  begin(): void {
    this.#moved();
  }

  #moved(): void {
    const { layout } = this.#text;
    const word = wordBegun(layout, this.#playback.at);
    const said = word >= 0 && isSaid(layout, word, this.#playback.at);
    if (word === this.#word && said === this.#said) return;
    this.#word = word;
    this.#said = said;
    const place = this.#place();
    mark("playing", place && said ? [place] : []);
    if (!place) return;
    const paragraph = paragraphOf(layout, word);
    if (paragraph !== this.#paragraph) {
      this.#text.row(this.#paragraph)?.classList.remove("playing");
      this.#text.row(paragraph)?.classList.add("playing");
      this.#paragraph = paragraph;
    }
    if (this.#away && this.#inView()) this.#setAway(false);
    this.#begun ||= this.#playback.playing;
    if (this.#begun && !this.#away && !this.#comfortable(place)) this.reveal(place);
  }

  #place(): Place | null {
    if (this.#word < 0) return null;
    const { words } = this.#text.layout;
    const paragraph = paragraphOf(this.#text.layout, this.#word);
    return this.#text.place(paragraph, words.from[this.#word]!, words.to[this.#word]!);
  }

  #comfortable({ text, from }: Place): boolean {
    const range = document.createRange();
    range.setStart(text, from);
    range.setEnd(text, from + 1);
    const box = range.getBoundingClientRect();
    const { top, bottom } = this.#freePart();
    return box.top >= top && box.bottom <= top + (bottom - top) * LOWEST_SHARE;
  }

  #scrolled(): void {
    if (performance.now() < this.#ours) return;
    this.#setAway(this.#paragraph >= 0 && !this.#inView());
  }

  #inView(): boolean {
    const box = this.#text.row(this.#paragraph)?.getBoundingClientRect();
    if (!box) return true;
    const { top, bottom } = this.#freePart();
    return box.bottom > top && box.top < bottom;
  }

  #setAway(away: boolean): void {
    this.#away = away;
    this.button.hidden = !away;
  }
}
