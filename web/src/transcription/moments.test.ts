import { expect, test } from "vitest";
import { layOut } from "./layout.ts";
import { isSaid, paragraphOf, wordAt, wordBegun } from "./moments.ts";

const words = (start: number, ...texts: string[]): { word: string; start: number; end: number }[] =>
  texts.map((word, i) => ({ word, start: start + i, end: start + i + 0.5 }));

const layout = layOut({
  language: "en",
  duration: 60,
  segments: [
    { start: 1, end: 3, text: "one two", speaker: "A", words: words(1, " one", " two") },
    { start: 10, end: 13, text: "three four five", speaker: "B", words: words(10, "three", "four", "five") },
  ],
});

test("the word that has begun last is found, and none before the first", () => {
  expect([0.9, 1, 1.99, 2, 9, 10, 99].map((at) => wordBegun(layout, at))).toEqual([-1, 0, 0, 1, 1, 2, 4]);
});

test("a word is said until a little after its end, and not through a pause", () => {
  expect([2, 2.6, 6].map((at) => isSaid(layout, 1, at))).toEqual([true, true, false]);
});

test("every word knows its paragraph", () => {
  expect([0, 1, 2, 4].map((word) => paragraphOf(layout, word))).toEqual([0, 0, 1, 1]);
});

test("a place in the text gives the word there, and the one before a space", () => {
  expect([0, 2, 3, 4, 99].map((offset) => wordAt(layout, 0, offset))).toEqual([0, 0, 0, 1, 1]);
  expect([0, 6, 14].map((offset) => wordAt(layout, 1, offset))).toEqual([2, 3, 4]);
});
