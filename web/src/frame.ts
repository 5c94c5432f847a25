// What stands round every screen: the name above, a line below, messages, and a way past it by keyboard.

import { element } from "./element.ts";
import { icon } from "./icon.ts";
import { noticesIn } from "./notice.ts";
import { schemeChoice } from "./scheme.ts";

const SVG = "http://www.w3.org/2000/svg";

export interface Frame {
  page: HTMLElement;
  /** The name is the heading of the first screen; the others have one of their own. */
  nameIsHeading(yes: boolean): void;
  /** Show who is signed in, with a way out; null where there is nothing to sign out of. */
  signedIn(signOut: (() => void) | null): void;
}

function mark(): SVGSVGElement {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", "0 0 32 32");
  drawing.setAttribute("class", "mark");
  drawing.setAttribute("aria-hidden", "true");
  for (const d of [
    "M4.5 11.5h23l-2.6 14.2a2.6 2.6 0 0 1-2.6 2.1H9.7a2.6 2.6 0 0 1-2.6-2.1Z",
    "M11 17v5M16 15v9M21 17v5",
    "M16 3.5v4M10.5 5v2.5M21.5 5v2.5",
  ]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    drawing.append(path);
  }
  return drawing;
}

export function frame(): Frame {
  const page = document.querySelector<HTMLElement>("#page");
  if (!page) throw new Error("The document has no #page.");
  const home = element("a", { href: "/", class: "wordmark" }, mark(), "Bucketscribe");
  const account = element("div", { class: "account" });
  const header = element("header", { class: "frame-header" }, element("p", { class: "name" }, home), account);
  const skip = element("a", { href: "#page", class: "skip visually-hidden" }, "Skip to the content");
  const footer = element(
    "footer",
    { class: "frame-footer" },
    element("p", {}, "What you add here goes straight into the bucket."),
    schemeChoice(),
  );
  document.body.prepend(skip, header);
  document.body.append(footer);
  noticesIn(document.body);
  return {
    page,
    nameIsHeading(yes) {
      const holder = element(yes ? "h1" : "p", { class: "name" });
      const focused = document.activeElement === home;
      home.parentElement?.replaceWith(holder);
      holder.append(home);
      if (focused) home.focus();
    },
    signedIn(signOut) {
      account.replaceChildren();
      if (!signOut) return;
      account.append(
        element(
          "button",
          { type: "button", class: "button button-quiet sign-out", onclick: signOut },
          icon("signOut", 18),
          "Sign out",
        ),
      );
    },
  };
}
