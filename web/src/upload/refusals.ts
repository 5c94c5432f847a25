// Files that were not added, and why, until they are dismissed or others are added.

import { element } from "../element.ts";
import { icon } from "../icon.ts";

const SHOWN = 4;

export interface Refusals {
  area: HTMLElement;
  show(name: string, reason: string): void;
  /** Others have been added: what was refused before then is old news. */
  added(): void;
}

/** A place for refusals. What comes in one go is shown in one go, the rest of many only counted. */
export function refusals(): Refusals {
  const list = element("ul", { class: "refusals-list" });
  const dismiss = element(
    "button",
    { type: "button", class: "icon-button", "aria-label": "Dismiss", title: "Dismiss", onclick: clear },
    icon("close", 18),
  );
  const area = element("div", { class: "refusals" }, element("div", { role: "alert" }, list), dismiss);
  dismiss.hidden = true;
  let fresh = false;
  let more = 0;
  let rest: HTMLElement | null = null;

  function clear(): void {
    list.replaceChildren();
    dismiss.hidden = true;
    more = 0;
    rest = null;
  }

  return {
    area,
    added() {
      if (!fresh) clear();
    },
    show(name, reason) {
      if (!fresh) {
        clear();
        fresh = true;
        setTimeout(() => (fresh = false));
      }
      dismiss.hidden = false;
      if (list.childElementCount < SHOWN) {
        list.append(element("li", {}, element("strong", {}, name), ` ${reason}`));
        return;
      }
      more += 1;
      if (!rest) list.append((rest = element("li")));
      rest.textContent = `And ${more} more were not added.`;
    },
  };
}
