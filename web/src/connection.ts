// A word at the foot of the window while the server cannot be reached.

import { element } from "./element.ts";
import { icon } from "./icon.ts";

const bar = element("div", { class: "connection", role: "status" });

/** Say whether the server can be reached. */
export function connection(there: boolean): void {
  if (there === (bar.childElementCount === 0)) return;
  if (!bar.isConnected) document.querySelector(".notices")?.before(bar);
  if (there) bar.replaceChildren();
  else {
    const words = "The server cannot be reached. What is shown may be old; it is tried again by itself.";
    bar.replaceChildren(icon("alert", 18), element("span", {}, words));
  }
}
