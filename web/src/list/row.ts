// One row of the list: made once, then changed in place, so that focus and selection stay where they are.

import { element } from "../element.ts";
import { when } from "../format.ts";
import { icon, type IconName } from "../icon.ts";
import { idOf, type Row } from "./rows.ts";
import { statusOf } from "./status.ts";

export interface Action {
  label: string;
  icon: IconName;
  /** What the row waits for: told in a word where there is room for one. */
  first?: boolean;
  run: () => void;
}

export interface RowView {
  element: HTMLLIElement;
  update(row: Row): void;
}

/** `actionsOf` says what can be done with a row; actions are told apart by their label. */
export function rowView(actionsOf: (row: Row) => Action[]): RowView {
  const shape = element("span", { class: "row-shape" });
  const link = element("a", { class: "row-name" });
  const words = element("p", { class: "row-words" });
  const amount = element("span");
  const time = element("time");
  const bar = element("span", { class: "row-bar-fill" });
  const range = { role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 };
  const track = element("div", { class: "row-bar", ...range }, bar);
  const buttons = element("div", { class: "row-actions" });
  const item = element(
    "li",
    { class: "row" },
    shape,
    element("div", { class: "row-main" }, link, element("p", { class: "row-aside" }, amount, time), words),
    buttons,
    track,
  );
  let drawn: IconName | null = null;
  const there = new Map<string, { button: HTMLButtonElement; action: Action }>();

  function updateActions(actions: Action[], name: string): void {
    const labels = new Set(actions.map((action) => action.label));
    let lost = false;
    for (const [label, { button }] of there) {
      if (labels.has(label)) continue;
      lost ||= document.activeElement === button;
      button.remove();
      there.delete(label);
    }
    actions.forEach((action, index) => {
      let known = there.get(action.label);
      if (!known) {
        const button = element(
          "button",
          {
            type: "button",
            class: action.first ? "button button-quiet row-button" : "icon-button",
            title: action.label,
            onclick: () => there.get(action.label)?.action.run(),
          },
          icon(action.icon),
          action.first && element("span", {}, action.label),
        );
        known = { button, action };
        there.set(action.label, known);
      }
      known.action = action;
      set(known.button, "aria-label", `${action.label} ${name}`);
      if (buttons.children[index] !== known.button) {
        buttons.insertBefore(known.button, buttons.children[index] ?? null);
      }
    });
    // Who pressed a button that has gone is not sent back to the top of the page.
    if (lost) (buttons.querySelector("button") ?? link).focus({ preventScroll: true });
  }

  return {
    element: item,
    update(row) {
      const { upload, transcription } = row;
      const status = statusOf(row);
      const id = idOf(row);
      const name = transcription?.name ?? upload?.name ?? "";
      set(item, "data-state", transcription?.state ?? "uploading");
      set(item, "data-id", id);
      set(item, "data-tone", status.tone);
      if (drawn !== status.icon) {
        drawn = status.icon;
        shape.replaceChildren(icon(status.icon));
      }
      text(link, name);
      set(link, "href", id === null ? null : `/t/${encodeURIComponent(id)}`);
      text(words, status.words.join(" · "));
      text(amount, status.amount ?? "");
      const created = status.amount === undefined ? transcription?.created : undefined;
      text(time, created === undefined ? "" : when(created));
      set(time, "datetime", created ?? null);
      set(time, "title", created === undefined ? null : new Date(created).toLocaleString());
      const { percent } = status;
      track.hidden = percent === null;
      track.classList.toggle("unknown", percent === -1);
      set(track, "aria-label", `Progress of ${name}`);
      set(track, "aria-valuenow", percent === null || percent < 0 ? null : String(Math.floor(percent)));
      bar.style.transform = percent === null || percent < 0 ? "" : `scaleX(${percent / 100})`;
      updateActions(actionsOf(row), name);
    },
  };
}

/** Only what differs is written: a row is updated some times a second. */
function set(target: Element, name: string, value: string | null): void {
  if (value === null) target.removeAttribute(name);
  else if (target.getAttribute(name) !== value) target.setAttribute(name, value);
}

function text(target: Element, value: string): void {
  if (target.textContent !== value) target.textContent = value;
}
