// How recordings are to be transcribed: what was chosen last is kept in the browser, and holds for what is
// added from then on.

import type { Choices } from "../api.ts";
import { element } from "../element.ts";
import { language } from "../format.ts";
import { keep, kept } from "../kept.ts";

const KEY = "bucketscribe:options";

/** As the server wants them when an upload begins; what is not there is the server's choice. */
export interface Options {
  language?: string;
  model?: string;
  diarize?: boolean;
  task?: "translate";
}

function remembered(choices: Choices): Options {
  let last: Options;
  try {
    last = JSON.parse(kept(KEY) ?? "{}") as Options;
  } catch {
    return {};
  }
  return {
    ...(last.language && choices.languages.includes(last.language) ? { language: last.language } : {}),
    ...(last.model && choices.models.includes(last.model) ? { model: last.model } : {}),
    ...(last.diarize === true ? { diarize: true } : {}),
    ...(last.task === "translate" ? { task: "translate" as const } : {}),
  };
}

/** A disclosure with the choices, and what they are at the moment. */
export function optionsForm(choices: Choices): { form: HTMLElement; current: () => Options } {
  let options = remembered(choices);

  const languages = element(
    "select",
    { id: "option-language" },
    element("option", { value: "" }, "Find out"),
    ...choices.languages
      .map((code) => ({ code, name: language(code) }))
      .sort((a, b) => a.name.localeCompare(b.name))
      .map(({ code, name }) => element("option", { value: code }, name)),
  );
  languages.value = options.language ?? "";
  const models = element(
    "select",
    { id: "option-model" },
    ...choices.models.map((model) => element("option", { value: model }, model)),
  );
  models.value = options.model ?? choices.defaultModel;
  const diarize = element("input", { type: "checkbox", checked: options.diarize === true });
  const translate = element("input", { type: "checkbox", checked: options.task === "translate" });
  const summary = element("span", { class: "options-summary" });

  function change(): void {
    options = {
      ...(languages.value ? { language: languages.value } : {}),
      ...(choices.models.length > 1 && models.value !== choices.defaultModel ? { model: models.value } : {}),
      ...(diarize.checked ? { diarize: true } : {}),
      ...(translate.checked ? { task: "translate" as const } : {}),
    };
    keep(KEY, JSON.stringify(options));
    summary.textContent = inWords(options);
  }

  const form = element(
    "details",
    { class: "options" },
    element("summary", {}, element("span", { class: "options-title" }, "Options"), summary),
    element(
      "div",
      { class: "options-fields", onchange: change },
      element(
        "div",
        { class: "field" },
        element("label", { htmlFor: "option-language" }, "Language spoken"),
        languages,
      ),
      choices.models.length > 1
        ? element("div", { class: "field" }, element("label", { htmlFor: "option-model" }, "Model"), models)
        : null,
      element(
        "div",
        { class: "option-checks" },
        element("label", { class: "check" }, diarize, element("span", {}, "Tell speakers apart")),
        element("label", { class: "check" }, translate, element("span", {}, "Translate into English")),
      ),
      element("p", { class: "hint" }, "They hold for what you add from now on."),
    ),
  );
  summary.textContent = inWords(options);
  return { form, current: () => options };
}

function inWords(options: Options): string {
  return [
    options.language ? language(options.language) : "Any language",
    options.model,
    options.diarize && "speakers",
    options.task && "into English",
  ]
    .filter(Boolean)
    .join(", ");
}
