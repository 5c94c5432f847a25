// The top of the screen: what the recording is called, what is known of it, and how the work is getting on.

import { isRepeatable, type Transcription } from "../api.ts";
import { element } from "../element.ts";
import { clock, length } from "../format.ts";
import { icon } from "../icon.ts";
import { statusOf } from "../list/status.ts";
import { isFinal } from "./follow.ts";
import { editInPlace } from "./in-place.ts";
import "./head.css";

export interface HeadActions {
  rename(name: string): Promise<void>;
  cancel(): void;
  retry(): void;
}

export interface Head {
  element: HTMLElement;
  show(transcription: Transcription): void;
}

export function head(actions: HeadActions): Head {
  const title = element("h1", { dir: "auto", class: "title-name" }, "\u00a0");
  const rename = element(
    "button",
    {
      type: "button",
      class: "icon-button to-come",
      "aria-label": "Rename",
      title: "Rename",
      onclick: () => editInPlace(title, { label: "Name", value: title.textContent, save: actions.rename }),
    },
    icon("pencil", 18),
  );
  const facts = element("p", { class: "facts" }, "\u00a0");
  const told = element("p", { class: "visually-hidden", role: "status" });
  const work = element("div", { class: "work", hidden: true });
  const failure = element("div", { class: "failure", hidden: true });
  const warnings = element("ul", { class: "warnings", "aria-label": "Warnings", hidden: true });
  let shown = "";

  function show(transcription: Transcription): void {
    rename.classList.remove("to-come");
    if (title.textContent !== transcription.name) title.textContent = transcription.name;
    document.title = `${transcription.name} · Bucketscribe`;
    const final = isFinal(transcription);
    facts.replaceChildren(...factsOf(transcription, final));
    if (!final) showWork(transcription);
    work.hidden = final;
    const { state } = transcription;
    if (state === shown) return;
    if (shown) told.textContent = statusOf({ key: 0, upload: null, transcription }).words.join(", ");
    shown = state;
    failure.hidden = !final || state === "completed";
    failure.replaceChildren(...(failure.hidden ? [] : reasonOf(transcription, actions.retry)));
    warnings.hidden = transcription.warnings.length === 0;
    warnings.replaceChildren(
      ...transcription.warnings.map(({ message }) => element("li", {}, icon("alert", 18), message)),
    );
  }

  const words = element("p", { class: "work-words" });
  const bar = element("progress", { class: "work-bar", max: 100, "aria-label": "Progress" });
  work.append(
    words,
    element("button", { type: "button", class: "button button-quiet", onclick: actions.cancel }, "Cancel"),
    bar,
  );

  function showWork(transcription: Transcription): void {
    const status = statusOf({ key: 0, upload: null, transcription });
    words.textContent = status.words.join(" · ");
    if (status.percent === null || status.percent < 0) bar.removeAttribute("value");
    else bar.value = status.percent;
  }

  return {
    element: element(
      "header",
      { class: "head" },
      element("a", { href: "/", class: "head-back" }, icon("left", 18), "All transcriptions"),
      element("div", { class: "title" }, title, rename),
      facts,
      told,
      work,
      failure,
      warnings,
    ),
    show,
  };
}

function factsOf(transcription: Transcription, final: boolean): Node[] {
  const status = statusOf({ key: 0, upload: null, transcription });
  const parts: Node[] = [];
  if (transcription.state === "completed") parts.push(...status.words.slice(1, 3).map(text));
  else if (transcription.duration !== null) parts.push(text(length(transcription.duration)));
  const created = new Date(transcription.created);
  parts.push(
    element(
      "time",
      { dateTime: transcription.created },
      created.toLocaleString("en", { dateStyle: "medium", timeStyle: "short" }),
    ),
  );
  const state = final ? STATES[transcription.state] : undefined;
  const badge = element(
    "span",
    { class: `badge tone-${status.tone}` },
    icon(status.icon, 16),
    state ?? "In progress",
  );
  return [badge, ...parts];
}

const text = (words: string): HTMLElement => element("span", {}, words);

const STATES: Partial<Record<Transcription["state"], string>> = {
  completed: "Ready",
  failed: "Failed",
  canceled: "Canceled",
  expired: "Expired",
};

function reasonOf(transcription: Transcription, retry: () => void): Node[] {
  const { state, error, partial } = transcription;
  const repeatable = isRepeatable(transcription);
  const again = repeatable
    ? [element("button", { type: "button", class: "button", onclick: retry }, "Retry")]
    : [];
  if (state === "expired") {
    return [
      element("p", {}, "Nothing was sent for too long, so the upload has ended. Upload the recording again."),
    ];
  }
  if (state === "canceled") {
    const next = repeatable ? "Retry transcribes it after all." : "Upload the recording again.";
    return [element("p", {}, `It was canceled before there was a transcript. ${next}`), ...again];
  }
  const at = error?.at_seconds;
  return [
    element(
      "div",
      {},
      element("p", { class: "failure-reason" }, error?.message ?? "The server gave no reason. Try again."),
      partial
        ? element("p", {}, `What was transcribed${at ? ` up to ${clock(at)}` : " until then"} stands below.`)
        : null,
    ),
    ...again,
  ];
}
