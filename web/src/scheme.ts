// Light or dark: as the system has it, until the reader says otherwise.

import { element } from "./element.ts";
import { keep, kept } from "./kept.ts";

const KEY = "bucketscribe:scheme";
const SCHEMES = { system: "System", light: "Light", dark: "Dark" } as const;

type Scheme = keyof typeof SCHEMES;

function remembered(): Scheme {
  const scheme = kept(KEY);
  return scheme === "light" || scheme === "dark" ? scheme : "system";
}

function apply(scheme: Scheme): void {
  if (scheme === "system") delete document.documentElement.dataset["scheme"];
  else document.documentElement.dataset["scheme"] = scheme;
}

apply(remembered());

/** Three small radio buttons. */
export function schemeChoice(): HTMLElement {
  const chosen = remembered();
  const choices = Object.entries(SCHEMES).map(([scheme, label]) =>
    element(
      "label",
      {},
      element("input", {
        type: "radio",
        name: "scheme",
        value: scheme,
        checked: scheme === chosen,
        class: "visually-hidden",
        onchange: () => {
          keep(KEY, scheme);
          apply(scheme as Scheme);
        },
      }),
      element("span", {}, label),
    ),
  );
  return element(
    "fieldset",
    { class: "schemes" },
    element("legend", { class: "visually-hidden" }, "Colours"),
    ...choices,
  );
}
