// The field to search in the transcript, and the way from one match to the next.

import { element } from "../element.ts";
import { icon, type IconName } from "../icon.ts";
import type { Found } from "./found.ts";

export interface FindBar {
  element: HTMLElement;
  focus(): void;
  /** To the next match, or the one before; false where nothing is searched. */
  step(by: 1 | -1): boolean;
}

export interface FindEvents {
  /** Show the match that is looked at. */
  show(): void;
  /** Play from it. */
  play(): void;
  /** The paragraph at the top of the window: what is found there or below comes first. */
  from(): number;
}

export function findBar(found: Found, events: FindEvents): FindBar {
  const field = element("input", {
    type: "search",
    class: "find-field",
    placeholder: "Search",
    "aria-label": "Search in the transcript",
    "aria-keyshortcuts": "/",
    autocomplete: "off",
    spellcheck: false,
    enterkeyhint: "search",
  });
  const count = element("output", { class: "find-count", "aria-live": "polite" });
  const previous = button("Previous match", "previous", () => step(-1));
  const next = button("Next match", "next", () => step(1));
  const play = button("Play from this match", "play", events.play);
  const steps = element("div", { class: "find-steps" }, count, previous, next, play);

  function show(): void {
    const searched = field.value.trim() !== "";
    const { hits, at } = found;
    count.textContent = !searched ? "" : hits.length === 0 ? "Not found" : `${at + 1} of ${hits.length}`;
    previous.disabled = next.disabled = play.disabled = hits.length === 0;
    steps.classList.toggle("idle", !searched);
    if (hits.length > 0) events.show();
  }

  function step(by: 1 | -1): boolean {
    if (field.value.trim() === "") return false;
    found.step(by);
    show();
    return true;
  }

  field.addEventListener("input", () => {
    found.search(field.value, events.from());
    show();
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      if (event.ctrlKey || event.metaKey) events.play();
      else step(event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape") {
      event.preventDefault();
      if (field.value === "") return field.blur();
      field.value = "";
      found.search("", 0);
      show();
    }
  });
  show();
  return {
    element: element("div", { role: "search", class: "find" }, icon("search", 18), field, steps),
    focus: () => {
      field.focus();
      field.select();
    },
    step,
  };
}

function button(label: string, drawing: IconName, press: () => void): HTMLButtonElement {
  return element(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, onclick: press },
    icon(drawing, 18),
  );
}
