// The screen that asks for a key, or for a token where the server knows no keys.

import { Problem, type Session } from "../api.ts";
import { element } from "../element.ts";
import { icon } from "../icon.ts";
import { signIn } from "./session.ts";

const WITH_KEYS = [
  "Whoever runs this server makes keys with ",
  element("code", {}, "bucketscribe keys new"),
  ". A key begins with ",
  element("code", {}, "bks_"),
  ".",
];
const WITH_TOKENS = ["Paste an access token of your identity provider. The session ends with the token."];

/** Fills `root` with the form. `reason` says why one is asked again, if one is. */
export function showSignIn(
  root: HTMLElement,
  session: Session,
  reason: string | null,
  signedIn: (session: Session) => void,
): void {
  const problem = element("p", { class: "form-problem", role: "alert", id: "key-problem" });
  const field = element("input", {
    id: "key",
    name: "key",
    type: "password",
    autocomplete: "current-password",
    autocapitalize: "off",
    spellcheck: false,
    required: true,
    "aria-describedby": "key-hint key-problem",
  });
  const show = element(
    "button",
    { type: "button", class: "icon-button", "aria-label": "Show the key", "aria-pressed": "false" },
    icon("eye"),
  );
  show.addEventListener("click", () => {
    const shown = field.type === "text";
    field.type = shown ? "password" : "text";
    show.setAttribute("aria-pressed", String(!shown));
  });
  const submit = element("button", { type: "submit", class: "button" }, "Sign in");

  async function send(event: Event): Promise<void> {
    event.preventDefault();
    const key = field.value.trim();
    if (!key) return refuse("Enter a key.");
    submit.disabled = true;
    problem.textContent = "";
    try {
      signedIn(await signIn(key));
    } catch (error) {
      refuse(wordsFor(error));
    } finally {
      submit.disabled = false;
    }
  }

  function refuse(words: string): void {
    problem.textContent = words;
    field.setAttribute("aria-invalid", "true");
    field.focus();
    field.select();
  }

  const form = element(
    "form",
    {
      class: "card sign-in",
      noValidate: true,
      "aria-label": "Sign in",
      onsubmit: (event: Event) => void send(event),
    },
    element("h2", {}, "Sign in"),
    reason ? element("p", { class: "sign-in-reason" }, reason) : null,
    element(
      "div",
      { class: "field" },
      element("label", { htmlFor: "key" }, "Key"),
      element("div", { class: "key-field" }, field, show),
      element(
        "p",
        { class: "hint", id: "key-hint" },
        ...(session.auth.includes("keys") ? WITH_KEYS : WITH_TOKENS),
      ),
    ),
    problem,
    submit,
  );
  root.replaceChildren(form);
  field.focus({ preventScroll: true });
}

function wordsFor(error: unknown): string {
  if (!(error instanceof Problem)) return "That did not work. Try again.";
  if (error.status === 401) {
    return "This key is not known here, or has ended. Check it, or ask whoever runs this server for another.";
  }
  return error.message;
}
