// The keyboard: what each key does, and the list that says so.

import { element } from "../element.ts";
import { icon } from "../icon.ts";

export interface Actions {
  toggle(): void;
  /** Move by so many seconds. */
  skip(seconds: number): void;
  search(): void;
  /** To the next match, or the one before; false where nothing is searched. */
  match(by: 1 | -1): boolean;
}

const LIST: [string[], string][] = [
  [["Space", "K"], "Play or pause"],
  [["←", "→"], "5 seconds back or forward"],
  [["J", "L"], "10 seconds back or forward"],
  [["↑", "↓"], "Previous or next paragraph, from a paragraph’s time"],
  [["Enter"], "Play from the time that has the focus"],
  [["/"], "Search in the transcript"],
  [["Enter", "Shift Enter"], "Next or previous match, in the search"],
  [["F3", "Shift F3"], "Next or previous match, anywhere"],
  [["Ctrl Enter"], "Play from the match, in the search"],
  [["?"], "This list"],
];

/** Where keys belong to what has the focus. */
const TYPING = "input, textarea, select, [contenteditable], [role='menu'], dialog";

/** Listen for the keys until the signal ends. Returns the list of them, and a button that opens it. */
export function keys(
  actions: Actions,
  signal: AbortSignal,
): { list: HTMLDialogElement; button: HTMLButtonElement } {
  const dialog = list();
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.defaultPrevented || event.isComposing) return;
      const target = event.target instanceof Element ? event.target : document.body;
      if (event.key === "F3" || (event.key.toLowerCase() === "g" && (event.ctrlKey || event.metaKey))) {
        if (actions.match(event.shiftKey ? -1 : 1)) event.preventDefault();
        return;
      }
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest(TYPING)) return;
      const action = actionOf(event, target);
      if (!action) return;
      event.preventDefault();
      action();
    },
    { signal },
  );

  function actionOf(event: KeyboardEvent, target: Element): (() => void) | null {
    switch (event.key) {
      case " ":
        return target.closest("button, a, summary") ? null : actions.toggle;
      case "k":
        return actions.toggle;
      case "ArrowLeft":
        return () => actions.skip(-5);
      case "ArrowRight":
        return () => actions.skip(5);
      case "j":
        return () => actions.skip(-10);
      case "l":
        return () => actions.skip(10);
      case "/":
        return actions.search;
      case "?":
        return () => dialog.showModal();
      default:
        return null;
    }
  }

  const button = element(
    "button",
    {
      type: "button",
      class: "icon-button keys-button",
      "aria-label": "Keyboard",
      title: "Keyboard",
      onclick: () => dialog.showModal(),
    },
    icon("keyboard"),
  );
  return { list: dialog, button };
}

function list(): HTMLDialogElement {
  const rows = LIST.map(([names, does]) =>
    element(
      "div",
      {},
      element("dt", {}, ...names.flatMap((name, i) => [i > 0 ? " " : null, element("kbd", {}, name)])),
      element("dd", {}, does),
    ),
  );
  const dialog = element(
    "dialog",
    { class: "keys-list card", "aria-labelledby": "keys-heading" },
    element("h2", { id: "keys-heading" }, "Keyboard"),
    element("dl", {}, ...rows),
    element("button", { type: "button", class: "button", onclick: () => dialog.close() }, "Close"),
  );
  // A click on the dialog itself is one beside what it shows.
  dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
  return dialog;
}
