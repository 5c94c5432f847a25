// Finding text whatever its case and accents are, and where in the text as it is written it was found.

/** Text made comparable. `origin[i]` is where its character i comes from; null: from the same place. */
export interface Folded {
  text: string;
  origin: Uint32Array<ArrayBuffer> | null;
}

/** A place in paragraph `paragraph`: the characters `from` up to `to` of its text. */
export interface Hit {
  paragraph: number;
  from: number;
  to: number;
}

// Latin, Greek and Cyrillic accents; Hebrew points; Arabic signs. Marks that spell, as in Hindi, are kept.
const ACCENTS = /[\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed]/gu;
const PLAIN = /^[\x20-\x7e]*$/;
const SIGNS: Record<string, string> = { "’": "'", "‘": "'", "“": '"', "”": '"', "\u00a0": " ", ß: "ss" };

/** Lower case, without accents, compatibility forms resolved, curly quotes straightened. */
export function fold(text: string): Folded {
  if (PLAIN.test(text)) return { text: text.toLowerCase(), origin: null };
  let folded = "";
  const origin: number[] = [];
  let at = 0;
  for (const character of text) {
    const piece = foldCharacter(character);
    for (let i = 0; i < piece.length; i++) origin.push(at);
    folded += piece;
    at += character.length;
  }
  return { text: folded, origin: Uint32Array.from(origin) };
}

const folds = new Map<string, string>();

function foldCharacter(character: string): string {
  let folded = folds.get(character);
  if (folded === undefined) {
    const lower = (SIGNS[character] ?? character).toLowerCase();
    folded = (SIGNS[lower] ?? lower).normalize("NFKD").replace(ACCENTS, "");
    folds.set(character, folded);
  }
  return folded;
}

/** All places where the query stands, in order, not overlapping. */
export function find(query: string, folded: Folded[], lengths: (paragraph: number) => number): Hit[] {
  const wanted = fold(query.replace(/\s+/gu, " ").trim()).text;
  const hits: Hit[] = [];
  if (!wanted) return hits;
  for (let paragraph = 0; paragraph < folded.length; paragraph++) {
    const { text, origin } = folded[paragraph]!;
    for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
      const end = at + wanted.length;
      hits.push(
        origin === null
          ? { paragraph, from: at, to: end }
          : { paragraph, from: origin[at]!, to: written(origin, end, lengths(paragraph)) },
      );
    }
  }
  return hits;
}

/** Where the character before `end` is over in the written text: accents that follow belong to it. */
function written(origin: Uint32Array<ArrayBuffer>, end: number, length: number): number {
  const last = origin[end - 1]!;
  for (let i = end; i < origin.length; i++) if (origin[i]! > last) return origin[i]!;
  return length;
}
