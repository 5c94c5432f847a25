import { expect, test } from "vitest";
import { find, fold } from "./searching.ts";

function found(query: string, ...texts: string[]): string[] {
  const hits = find(query, texts.map(fold), (paragraph) => texts[paragraph]!.length);
  return hits.map(({ paragraph, from, to }) => texts[paragraph]!.slice(from, to));
}

test("case and accents make no difference, either way round", () => {
  expect(found("cafe", "Ein CAFÉ und ein Cafe\u0301.")).toEqual(["CAFÉ", "Cafe\u0301"]);
  expect(found("ÉTÉ", "l'ete")).toEqual(["ete"]);
});

test("a hit is where the text as written has it, also after characters that fold to several", () => {
  expect(found("straße", "Größe: STRASSE, Straße")).toEqual(["STRASSE", "Straße"]);
  expect(found("office", "the oﬃce is open")).toEqual(["oﬃce"]);
  expect(found("smile", "😀 smile")).toEqual(["smile"]);
});

test("curly and straight quotes are the same", () => {
  expect(found("don't", "I don’t, you don't")).toEqual(["don’t", "don't"]);
});

test("Arabic is found without its vowel signs, Hindi keeps its vowels", () => {
  expect(found("سلام", "سَلَام عليكم")).toEqual(["سَلَام"]);
  expect(found("कि", "का कि")).toEqual(["कि"]);
});

test("hits come in order, do not overlap, and say in which paragraph they are", () => {
  const texts = ["aaaa", "b", "Aa"];
  const hits = find("aa", texts.map(fold), (paragraph) => texts[paragraph]!.length);
  expect(hits.map(({ paragraph, from }) => [paragraph, from])).toEqual([
    [0, 0],
    [0, 2],
    [2, 0],
  ]);
});

test("nothing is found for nothing", () => {
  expect(found("   ", "some text")).toEqual([]);
});
