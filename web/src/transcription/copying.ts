// The transcript, or what of it is selected, as plain text in the clipboard.

import type { Layout } from "./layout.ts";

/** Paragraphs with an empty line between; who speaks stands before what they say. */
export function plainText({ paragraphs }: Layout, nameOf: (speaker: number) => string): string {
  const told = paragraphs.map(({ text, speaker }) => (speaker >= 0 ? `${nameOf(speaker)}: ${text}` : text));
  return `${told.join("\n\n")}\n`;
}

/** What is selected inside an element, "" if nothing is. */
export function selectedIn(host: HTMLElement): string {
  const selection = getSelection();
  if (!selection || selection.isCollapsed || selection.rangeCount === 0) return "";
  return selection.getRangeAt(0).intersectsNode(host) ? selection.toString() : "";
}

/** Whether it worked. Browsers keep the clipboard from pages that came without TLS: there, the old way. */
export async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "visually-hidden";
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
