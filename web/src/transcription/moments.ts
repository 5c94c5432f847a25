// From a moment to the word that is said then, and from a place in the text back to its moment.

import type { Layout } from "./layout.ts";

/** How long a word stays marked after it was said: short pauses would make the mark flicker. */
const LINGER_SECONDS = 1;

/** The last of `count` rows whose value is not above `limit`, or -1; values must not fall. */
export function lastUpTo(limit: number, count: number, value: (row: number) => number): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (value(middle) <= limit) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The word begun last at this moment, or -1 before the first. */
export function wordBegun({ words }: Layout, seconds: number): number {
  return lastUpTo(seconds, words.start.length, (row) => words.start[row]!);
}

/** Whether a word that has begun is still being said, or was just now. */
export function isSaid({ words }: Layout, word: number, seconds: number): boolean {
  return seconds < words.end[word]! + LINGER_SECONDS;
}

/** The paragraph a word belongs to. */
export function paragraphOf({ paragraphs }: Layout, word: number): number {
  return lastUpTo(word, paragraphs.length, (row) => paragraphs[row]!.first);
}

/** The word at an offset into a paragraph's text, or else before it, or else the paragraph's first. */
export function wordAt(layout: Layout, paragraph: number, offset: number): number {
  const first = layout.paragraphs[paragraph]!.first;
  const after = layout.paragraphs[paragraph + 1]?.first ?? layout.words.start.length;
  const row = lastUpTo(offset, after - first, (index) => layout.words.from[first + index]!);
  return first + Math.max(0, row);
}
