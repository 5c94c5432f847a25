import { expect, test } from "vitest";
import type { Transcription } from "../api.ts";
import type { Upload } from "../upload/uploads.ts";
import { idOf, Rows } from "./rows.ts";

const transcription = (id: string): Transcription =>
  ({ id, name: `${id}.wav`, state: "uploading" }) as Transcription;
const upload = (file: string, id: string | null = null): Upload => ({
  file,
  id,
  name: file,
  size: 1,
  sent: 0,
  phase: "sending",
  waiting: null,
  bytesPerSecond: null,
  secondsLeft: null,
  error: null,
});
const shown = (rows: Rows): (string | undefined)[] =>
  rows.rows.map((row) => row.upload?.file ?? row.transcription?.id);

test("an upload becomes a transcription in the row it has", () => {
  const rows = new Rows();
  rows.begin([transcription("1")], true);
  rows.setUploads([upload("a"), upload("b")]);
  const key = rows.rows[1]?.key;
  rows.setUploads([upload("a", "2"), upload("b", "3")]);
  rows.put(transcription("2"));
  rows.put(transcription("3"));
  rows.setUploads([]);
  expect(rows.rows.map(idOf)).toEqual(["3", "2", "1"]);
  expect(rows.rows[1]?.key).toBe(key);
});

test("the server's word of an upload that comes before ours leaves one row", () => {
  const rows = new Rows();
  rows.begin([], true);
  rows.setUploads([upload("a")]);
  rows.put(transcription("1"));
  rows.setUploads([upload("a", "1")]);
  expect(shown(rows)).toEqual(["a"]);
  expect(rows.rows[0]?.transcription?.id).toBe("1");
});

test("a new transcription stands where its age puts it, and moves nothing", () => {
  const rows = new Rows();
  rows.begin([transcription("5"), transcription("3")], true);
  rows.put(transcription("4"));
  rows.put(transcription("6"));
  rows.put(transcription("1"));
  expect(shown(rows)).toEqual(["6", "5", "4", "3", "1"]);
});

test("a list that has more leaves older rows, and drops what is missing from it", () => {
  const rows = new Rows();
  rows.begin([transcription("5"), transcription("4"), transcription("3")], false);
  rows.put(transcription("1"));
  rows.begin([transcription("5"), transcription("3")], false);
  expect(shown(rows)).toEqual(["5", "3", "1"]);
  rows.begin([transcription("5")], true);
  expect(shown(rows)).toEqual(["5"]);
});

test("an upload that is canceled before it began leaves no row", () => {
  const rows = new Rows();
  rows.setUploads([upload("a"), upload("b", "2")]);
  rows.put(transcription("2"));
  rows.setUploads([]);
  expect(shown(rows)).toEqual(["2"]);
});
