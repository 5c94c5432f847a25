// The menu of the formats a transcript can be had in.

import { element } from "../element.ts";
import { icon } from "../icon.ts";

const FORMATS: [string, string][] = [
  ["txt", "Text (txt)"],
  ["srt", "SubRip (srt)"],
  ["vtt", "WebVTT (vtt)"],
  ["ass", "SubStation (ass)"],
  ["tsv", "TSV (tsv)"],
  ["json", "JSON"],
];

/** A menu button (WAI-ARIA practices); its items are links. */
export function downloadMenu(id: string): HTMLElement {
  const items = FORMATS.map(([format, label]) =>
    element(
      "a",
      {
        role: "menuitem",
        tabIndex: -1,
        href: `/transcriptions/${encodeURIComponent(id)}/transcript.${format}`,
        download: "",
        onclick: () => close(true),
      },
      label,
    ),
  );
  const list = element(
    "div",
    { role: "menu", class: "menu", "aria-label": "Download", hidden: true },
    ...items,
  );
  const button = element(
    "button",
    {
      type: "button",
      class: "button button-quiet",
      "aria-haspopup": "menu",
      "aria-expanded": "false",
      onclick: () => (list.hidden ? open(0) : close(true)),
    },
    icon("download", 18),
    element("span", { class: "tool-name" }, "Download"),
  );
  button.ariaLabel = "Download";
  const menu = element("div", { class: "menu-holder" }, button, list);

  function open(item: number): void {
    list.hidden = false;
    button.ariaExpanded = "true";
    items.at(item)?.focus();
  }

  function close(back: boolean): void {
    list.hidden = true;
    button.ariaExpanded = "false";
    if (back) button.focus();
  }

  button.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    open(event.key === "ArrowDown" ? 0 : -1);
  });
  list.addEventListener("keydown", (event) => {
    const at = items.indexOf(document.activeElement as HTMLAnchorElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    if (to !== undefined) items.at(to % items.length)?.focus();
    else if (event.key === "Escape") close(true);
    else if (event.key === " ") items[at]?.click();
    else if (/^\S$/.test(event.key)) startingWith(event.key, at)?.focus();
    else return;
    event.preventDefault();
  });
  menu.addEventListener("focusout", ({ relatedTarget }) => {
    if (!list.hidden && !menu.contains(relatedTarget as Node | null)) close(false);
  });

  function startingWith(letter: string, after: number): HTMLElement | undefined {
    const order = [...items.slice(after + 1), ...items.slice(0, after + 1)];
    return order.find((item) => item.textContent.toLowerCase().startsWith(letter.toLowerCase()));
  }

  return menu;
}
