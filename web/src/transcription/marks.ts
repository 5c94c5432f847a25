// Words marked without an element for each of them, by the CSS Custom Highlight API.

export type MarkName = "playing" | "found" | "current";

const PRIORITY: Record<MarkName, number> = { playing: 0, found: 1, current: 2 };

/** The characters `from` up to `to` of a text. */
export interface Place {
  text: Text;
  from: number;
  to: number;
}

/** Whether this browser can; paragraphs are marked in any case. */
const able = "highlights" in CSS;

/** Mark these places, and no others, by a name of the style sheet. */
export function mark(name: MarkName, places: Place[]): void {
  if (!able) return;
  if (places.length === 0) {
    CSS.highlights.delete(name);
    return;
  }
  const highlight = new Highlight(...places.map(rangeOf));
  highlight.priority = PRIORITY[name];
  CSS.highlights.set(name, highlight);
}

/** A range that nobody has to keep up to date: a paragraph's text stays as it is. */
function rangeOf({ text, from, to }: Place): StaticRange {
  return new StaticRange({ startContainer: text, startOffset: from, endContainer: text, endOffset: to });
}

export function unmarkAll(): void {
  for (const name of Object.keys(PRIORITY)) mark(name as MarkName, []);
}
