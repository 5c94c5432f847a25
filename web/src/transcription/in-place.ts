// A name that can be changed where it stands.

import { element } from "../element.ts";
import { notice } from "../notice.ts";

/**
 * Put a field in place of `shown`. Enter and leaving the field save, Escape does not; `shown` comes back
 * in any case. What could not be saved is said in a notice.
 */
export function editInPlace(
  shown: HTMLElement,
  { label, value, save }: { label: string; value: string; save: (value: string) => Promise<void> },
): void {
  const before = document.activeElement;
  const field = element("input", {
    class: "in-place",
    "aria-label": label,
    value,
    maxLength: 200,
    autocomplete: "off",
    dir: "auto",
  });
  let over = false;

  async function end(keep: boolean, refocus: boolean): Promise<void> {
    if (over) return;
    over = true;
    const typed = field.value.trim();
    field.replaceWith(shown);
    if (refocus && before instanceof HTMLElement) before.focus({ preventScroll: true });
    if (!keep || typed === value) return;
    try {
      await save(typed);
    } catch (error) {
      notice(error instanceof Error ? error.message : "The name could not be saved. Try again.");
    }
  }

  field.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    void end(event.key === "Enter", true);
  });
  field.addEventListener("blur", () => void end(true, false));
  shown.replaceWith(field);
  field.focus({ preventScroll: true });
  field.select();
}
