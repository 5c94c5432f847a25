// Search within the transcript: what is found, which of it is looked at, and marking both.

import { find, type Folded, type Hit } from "./searching.ts";
import { mark, type Place } from "./marks.ts";
import { lastUpTo, wordAt } from "./moments.ts";
import type { TranscriptText } from "./text.ts";

/** Finds in the whole text; marks what is near the window, for thousands of marks would be slow to paint. */
export class Found {
  hits: Hit[] = [];
  /** Index of the hit that is looked at, -1 without one. */
  at = -1;
  readonly #text: TranscriptText;
  readonly #folded: Folded[];
  /** Groups near the window. */
  readonly #near = new Set<number>();
  readonly #observer: IntersectionObserver;

  constructor(text: TranscriptText, folded: Folded[], signal: AbortSignal) {
    this.#text = text;
    this.#folded = folded;
    this.#observer = new IntersectionObserver((entries) => this.#seen(entries), { rootMargin: "50% 0px" });
    signal.addEventListener("abort", () => this.#observer.disconnect(), { once: true });
    void text.built.then(() => {
      if (!signal.aborted) for (const group of text.groups) this.#observer.observe(group);
    });
  }

  /** Find; the hit looked at is the first one from `paragraph` on. */
  search(query: string, paragraph: number): void {
    const { paragraphs } = this.#text.layout;
    this.hits = find(query, this.#folded, (index) => paragraphs[index]!.text.length);
    const next = this.hits.findIndex((hit) => hit.paragraph >= paragraph);
    this.at = this.hits.length === 0 ? -1 : Math.max(0, next);
    this.#mark();
  }

  /** Look at the next hit, or the one before, round the end. */
  step(by: 1 | -1): void {
    const count = this.hits.length;
    if (count === 0) return;
    this.at = (this.at + by + count) % count;
    this.#markCurrent();
  }

  get place(): Place | null {
    const hit = this.hits[this.at];
    return hit ? this.#text.place(hit.paragraph, hit.from, hit.to) : null;
  }

  /** When the hit that is looked at is said, in seconds; null without one. */
  get moment(): number | null {
    const hit = this.hits[this.at];
    const { layout } = this.#text;
    return hit ? layout.words.start[wordAt(layout, hit.paragraph, hit.from)]! : null;
  }

  #seen(entries: IntersectionObserverEntry[]): void {
    for (const { target, isIntersecting } of entries) {
      const group = this.#text.groups.indexOf(target as HTMLElement);
      if (isIntersecting) this.#near.add(group);
      else this.#near.delete(group);
    }
    this.#mark();
  }

  #mark(): void {
    const near = [...this.#near].flatMap((group) => this.#text.inGroup(group));
    mark(
      "found",
      near.flatMap((paragraph) => this.#places(paragraph)),
    );
    this.#markCurrent();
  }

  #markCurrent(): void {
    const place = this.place;
    mark("current", place ? [place] : []);
  }

  #places(paragraph: number): Place[] {
    const { hits } = this;
    const before = (limit: number): number => lastUpTo(limit, hits.length, (row) => hits[row]!.paragraph);
    return hits
      .slice(before(paragraph - 1) + 1, before(paragraph) + 1)
      .flatMap(({ from, to }) => this.#text.place(paragraph, from, to) ?? []);
  }
}
