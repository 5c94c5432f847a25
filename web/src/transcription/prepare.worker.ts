// Parses and lays out a transcript beside the page's own thread, which ten hours of it would hold up.

import { layOut, type Layout, type TranscriptFile } from "./layout.ts";
import { fold, type Folded } from "./searching.ts";

/** What the worker answers: the layout, and for each paragraph the text that is searched. */
export type Prepared = {
  layout: Layout;
  folded: Folded[];
  file: Pick<TranscriptFile, "language" | "speakers">;
};

addEventListener("message", ({ data }: MessageEvent<ArrayBuffer>) => {
  const file = JSON.parse(new TextDecoder().decode(data)) as TranscriptFile;
  const layout = layOut(file);
  const folded = layout.paragraphs.map((paragraph) => fold(paragraph.text));
  const prepared: Prepared = {
    layout,
    folded,
    file: { language: file.language, speakers: file.speakers ?? null },
  };
  const { start, end, from, to } = layout.words;
  const transfer = [start, end, from, to, ...folded.flatMap(({ origin }) => origin ?? [])].map(
    (rows) => rows.buffer,
  );
  postMessage(prepared, { transfer });
});
