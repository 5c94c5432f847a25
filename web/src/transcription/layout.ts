// A transcript laid out for reading: captions gathered into paragraphs, and where in them each word stands.
//
// Ten hours are 100,000 words: they are rows of typed arrays, which a worker can hand over without copying.

/** What of `transcript.json` is read here. Times are seconds from the start of the recording. */
export interface TranscriptFile {
  language: string | null;
  duration: number;
  segments: Segment[];
  speakers?: Record<string, string> | null;
}

export interface Segment {
  start: number;
  end: number;
  text: string;
  speaker?: string | null;
  words?: { start: number; end: number; word: string }[];
}

/** `paragraphs[p]` has the words `first` up to, not including, `first` of the next one. */
export interface Paragraph {
  text: string;
  start: number;
  end: number;
  /** Index into `Layout.speakers`, or -1. */
  speaker: number;
  first: number;
}

/** Row w is word w: when it is said, and the characters (UTF-16 units) it has in its paragraph. */
export interface Words {
  start: Float64Array<ArrayBuffer>;
  end: Float64Array<ArrayBuffer>;
  from: Uint32Array<ArrayBuffer>;
  to: Uint32Array<ArrayBuffer>;
}

export interface Layout {
  paragraphs: Paragraph[];
  words: Words;
  /** Labels, in the order in which they are first heard. */
  speakers: string[];
  /** Seconds each of them speaks. */
  spoken: number[];
}

const PAUSE_SECONDS = 1.5;
const LONG_PAUSE_SECONDS = 4;
const ENOUGH_CHARACTERS = 160;
const MANY_CHARACTERS = 480;
const MOST_CHARACTERS = 900;

const SENTENCE_END = /[.!?…。！？؟।][\p{Pe}\p{Pf}"'’”»]*$/u;
const UNSPACED =
  /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}\p{sc=Laoo}\p{sc=Khmr}\p{sc=Mymr}\u3000-\u303f\uff00-\uffef]/u;

/** Gather captions into paragraphs: a new one for another speaker, after a pause, and before it is too long. */
export function layOut(file: TranscriptFile): Layout {
  const count = file.segments.reduce((sum, segment) => sum + Math.max(1, segment.words?.length ?? 0), 0);
  const words: Words = {
    start: new Float64Array(count),
    end: new Float64Array(count),
    from: new Uint32Array(count),
    to: new Uint32Array(count),
  };
  const paragraphs: Paragraph[] = [];
  const speakers: string[] = [];
  const spoken: number[] = [];
  let last: Paragraph | undefined;
  let row = 0;
  for (const segment of file.segments) {
    const text = segment.text.replace(/\s+/gu, " ").trim();
    if (!text) continue;
    const speaker = segment.speaker ? indexOf(segment.speaker, speakers, spoken) : -1;
    if (speaker >= 0) spoken[speaker] = (spoken[speaker] ?? 0) + Math.max(0, segment.end - segment.start);
    if (!last || speaker !== last.speaker || ends(last, segment.start)) {
      last = { text: "", start: segment.start, end: segment.end, speaker, first: row };
      paragraphs.push(last);
    }
    const offset = last.text.length + (joint(last.text, text) ? 1 : 0);
    last.text += (offset > last.text.length ? " " : "") + text;
    last.end = Math.max(last.end, segment.end);
    row = place(segment, text, offset, words, row);
  }
  return { paragraphs, words: cut(words, row), speakers, spoken };
}

function indexOf(label: string, speakers: string[], spoken: number[]): number {
  const found = speakers.indexOf(label);
  if (found >= 0) return found;
  spoken.push(0);
  return speakers.push(label) - 1;
}

function ends(paragraph: Paragraph, next: number): boolean {
  const pause = next - paragraph.end;
  const length = paragraph.text.length;
  if (pause >= LONG_PAUSE_SECONDS || length >= MOST_CHARACTERS) return true;
  if (!SENTENCE_END.test(paragraph.text)) return false;
  return (pause >= PAUSE_SECONDS && length >= ENOUGH_CHARACTERS) || length >= MANY_CHARACTERS;
}

/** Whether a space belongs between two pieces of text; some scripts have none. */
export function joint(before: string, after: string): boolean {
  if (!before) return false;
  return !(UNSPACED.test(before.slice(-1)) && UNSPACED.test(after.slice(0, 1)));
}

/** Write a segment's words into the rows; it is one word where it has none, or where they are not its text. */
function place(segment: Segment, text: string, offset: number, words: Words, first: number): number {
  let row = first;
  let at = 0;
  for (const word of segment.words ?? []) {
    const said = word.word.replace(/\s+/gu, " ").trim();
    if (!said) continue;
    const found = text.indexOf(said, at);
    if (found < 0) {
      row = first;
      break;
    }
    at = found + said.length;
    set(words, row++, word.start, word.end, offset + found, offset + at);
  }
  if (row > first) return row;
  set(words, first, segment.start, segment.end, offset, offset + text.length);
  return first + 1;
}

function set(words: Words, row: number, start: number, end: number, from: number, to: number): void {
  // Times that run backwards would mislead the search for the word that is spoken.
  words.start[row] = row > 0 ? Math.max(start, words.start[row - 1]!) : start;
  words.end[row] = end;
  words.from[row] = from;
  words.to[row] = to;
}

function cut(words: Words, rows: number): Words {
  return {
    start: words.start.slice(0, rows),
    end: words.end.slice(0, rows),
    from: words.from.slice(0, rows),
    to: words.to.slice(0, rows),
  };
}
