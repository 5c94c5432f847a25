// Short messages at the foot of the window, spoken by screen readers as they come.

import { element } from "./element.ts";

const SECONDS = 6;
const MOST = 3;

const region = element("div", { class: "notices", role: "status", "aria-live": "polite" });
const spoken = element("p", { class: "visually-hidden", role: "log", "aria-live": "polite" });
const shown: (() => void)[] = [];

/** Put the regions into the page, where they must be before the first message comes. */
export function noticesIn(body: HTMLElement): void {
  body.append(region, spoken);
  addEventListener("keydown", (event) => {
    if (event.key !== "z" || !(event.ctrlKey || event.metaKey) || event.shiftKey || event.altKey) return;
    if (event.target instanceof Element && event.target.closest("input, textarea, select")) return;
    // By keyboard alone, the way to a message is longer than it stays.
    const newest = [...region.querySelectorAll<HTMLElement>(".notice-action")].at(-1);
    if (!newest) return;
    event.preventDefault();
    newest.click();
  });
}

/**
 * A message, for as long as it takes to read, and while it is pointed at or has the focus; with at most one
 * thing to do. `unused` is called when it goes without that having been done.
 */
export function notice(
  text: string,
  action?: { label: string; run: () => void; seconds?: number },
  unused?: () => void,
): void {
  const toast = element("div", { class: "notice" }, element("span", {}, text));
  const left = new AbortController();
  let timer: ReturnType<typeof setTimeout>;

  function leave(): void {
    // Before it goes: what is removed loses the focus, which would make it wait again.
    left.abort();
    stay();
    toast.remove();
    shown.splice(shown.indexOf(end), 1);
  }

  function end(): void {
    leave();
    unused?.();
  }

  function stay(): void {
    clearTimeout(timer);
  }

  function wait(): void {
    stay();
    timer = setTimeout(end, (action?.seconds ?? SECONDS) * 1000);
  }

  if (action) {
    const run = (): void => {
      leave();
      action.run();
    };
    toast.append(
      element(
        "button",
        { class: "notice-action", type: "button", "aria-keyshortcuts": "Control+Z", onclick: run },
        action.label,
      ),
    );
  }
  for (const event of ["pointerenter", "focusin"]) toast.addEventListener(event, stay, left);
  for (const event of ["pointerleave", "focusout"]) toast.addEventListener(event, wait, left);
  region.append(toast);
  shown.push(end);
  if (shown.length > MOST) shown[0]?.();
  wait();
}

/** Let all messages go now. */
export function endNotices(): void {
  for (const end of [...shown]) end();
  spoken.textContent = "";
}

/** Say something to screen readers alone, for what others see happen. */
export function announce(text: string): void {
  spoken.textContent = text;
}
