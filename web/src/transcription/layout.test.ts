import { expect, test } from "vitest";
import { layOut, type Segment } from "./layout.ts";

function said(start: number, text: string, more: Partial<Segment> = {}): Segment {
  return { start, end: start + 1, text, ...more };
}

function laidOut(...segments: Segment[]): ReturnType<typeof layOut> {
  return layOut({ language: "en", duration: 100, segments });
}

const SENTENCE = `${"A sentence that is long enough to stand alone ".repeat(4).trim()}.`;

test("captions that follow each other become one paragraph, with spaces between", () => {
  const { paragraphs } = laidOut(said(0, "And so, my fellow"), said(1, " Americans: "));
  expect(paragraphs.map(({ text }) => text)).toEqual(["And so, my fellow Americans:"]);
});

test("no space is put between captions of a script that has none", () => {
  const { paragraphs } = laidOut(said(0, "今日は"), said(1, "いい天気です。"));
  expect(paragraphs[0]?.text).toBe("今日はいい天気です。");
});

test("another speaker begins a paragraph, and the time of each is counted", () => {
  const { paragraphs, speakers, spoken } = laidOut(
    said(0, "Yes.", { speaker: "B" }),
    said(1, "No.", { speaker: "A" }),
    said(2, "Yes!", { speaker: "B" }),
  );
  expect(paragraphs.map(({ speaker }) => speakers[speaker])).toEqual(["B", "A", "B"]);
  expect(spoken).toEqual([2, 1]);
});

test("a pause ends a paragraph only after a sentence, a long one always", () => {
  expect(laidOut(said(0, SENTENCE), said(3, "New.")).paragraphs).toHaveLength(2);
  expect(laidOut(said(0, SENTENCE.slice(0, -1)), said(3, "and on.")).paragraphs).toHaveLength(1);
  expect(laidOut(said(0, "Short"), said(6, "and late")).paragraphs).toHaveLength(2);
});

test("a paragraph ends in time even where no sentence does", () => {
  const { paragraphs } = laidOut(...Array.from({ length: 400 }, (_, i) => said(i, "on and on and on")));
  expect(Math.max(...paragraphs.map(({ text }) => text.length))).toBeLessThan(1000);
});

test("words stand where the text has them", () => {
  const words = [" ask", " not,", " ask"].map((word, i) => ({ word, start: i, end: i + 1 }));
  const layout = laidOut(said(0, "Now."), said(1, "ask not, ask", { words }));
  const text = layout.paragraphs[0]!.text;
  const cut = [...layout.words.from].map((from, row) => text.slice(from, layout.words.to[row]));
  expect(cut).toEqual(["Now.", "ask", "not,", "ask"]);
});

test("a caption without words, or with others than its text has, is one word", () => {
  const words = [{ word: "something", start: 0, end: 1 }];
  const { words: rows } = laidOut(said(0, "else", { words }), said(1, "entirely", { words: [] }));
  expect([...rows.from]).toEqual([0, 5]);
  expect([...rows.to]).toEqual([4, 13]);
});

test("times never run backwards, whatever the file says", () => {
  const { words } = laidOut(said(5, "late"), said(3, "early"));
  expect([...words.start]).toEqual([5, 5]);
});

test("an empty transcript has no paragraphs", () => {
  expect(laidOut(said(0, "  ")).paragraphs).toEqual([]);
});
