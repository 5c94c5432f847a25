// Where the page begins: who is signed in decides whether a key is asked for, the address which screen is
// shown.

import "./style/page.css";
import "./scheme.ts";
import { onUnauthorized, Problem, request, type Choices, type Session } from "./api.ts";
import { connection } from "./connection.ts";
import { element } from "./element.ts";
import { frame } from "./frame.ts";
import { home, type Home } from "./home.ts";
import { navigate, onNavigate, transcriptionInAddress } from "./navigation.ts";
import { endNotices, notice } from "./notice.ts";
import { readSession, signOut } from "./session/session.ts";
import { showSignIn } from "./session/sign-in.ts";
import { showTranscription } from "./transcription/view.ts";

const RETRY_SECONDS = [1, 2, 4, 8, 15];
const around = frame();
const gate = element("div", { class: "gate" });
const reading = element("div", { class: "reading" });
let first: Home | null = null;
let who: Session | null = null;
let asking = false;
let shown: { id: string; leave: AbortController } | null = null;

const ENDED = "Your session has ended. Sign in to go on where you were.";

/** Asks until the server answers, so that the page may be opened before the server is. */
async function persistent<T>(ask: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries += 1) {
    try {
      const answer = await ask();
      connection(true);
      return answer;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      connection(false);
      const seconds = RETRY_SECONDS[Math.min(tries, RETRY_SECONDS.length - 1)] ?? 15;
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    }
  }
}

function choices(): Promise<Choices> {
  return persistent(() => request<Choices>("/options"));
}

async function askForKey(reason: string | null): Promise<void> {
  if (asking) return;
  asking = true;
  first?.uploads.hold();
  first?.stopFollowing();
  leaveTranscription();
  around.signedIn(null);
  const now = await persistent(readSession);
  if (now.owner !== null) return enter(now);
  around.nameIsHeading(true);
  around.page.replaceChildren(gate);
  document.title = "Sign in · Bucketscribe";
  showSignIn(gate, now, reason, (begun) => void enter(begun));
}

async function enter(begun: Session): Promise<void> {
  if (begun.owner === null) return askForKey(null);
  if (who !== null && !(who.owner === begun.owner && who.scopes.join() === begun.scopes.join())) {
    // Nothing of somebody else's is to be left on the screen, and nothing that is not allowed.
    location.reload();
    return;
  }
  asking = false;
  who = begun;
  around.signedIn(begun.auth.length > 0 ? () => void leave() : null);
  if (first) first.uploads.release();
  else first = home(begun.owner, begun.scopes, await choices(), retitle);
  first.follow();
  const asked = gate.isConnected;
  // The form still holds the key.
  gate.replaceChildren();
  route();
  if (asked) around.page.focus({ preventScroll: true });
}

async function leave(): Promise<void> {
  // What may still be undone is done now, while it is allowed, and names nothing on the next screen.
  endNotices();
  try {
    await signOut();
  } catch (error) {
    notice(error instanceof Problem ? error.message : "Signing out did not work. Try again.");
    return;
  }
  navigate("/");
  await askForKey(null);
}

function retitle(): void {
  if (first?.element.isConnected) document.title = first.title();
}

function leaveTranscription(): void {
  shown?.leave.abort();
  shown = null;
  // Ten hours of transcript are not kept for a screen that is gone.
  reading.replaceChildren();
}

function route(): void {
  if (!first || asking) return;
  const id = transcriptionInAddress();
  if (id !== null && id === shown?.id) return;
  const from = shown?.id;
  leaveTranscription();
  if (id === null && first.element.isConnected) return;
  around.nameIsHeading(id === null);
  if (id === null) {
    around.page.replaceChildren(first.element);
    retitle();
    if (from !== undefined && !first.list.focus(from)) around.page.focus({ preventScroll: true });
    return;
  }
  shown = { id, leave: new AbortController() };
  around.page.replaceChildren(reading);
  around.page.focus({ preventScroll: true });
  showTranscription(reading, id, shown.leave.signal);
}

/** In another tab, somebody else may have signed in meanwhile. */
async function lookWhoIsThere(): Promise<void> {
  if (document.visibilityState === "hidden" || !who?.auth.length || asking) return;
  const now = await readSession().catch(() => null);
  if (now === null || asking || now.owner === who.owner) return;
  if (now.owner === null) await askForKey(ENDED);
  else await enter(now);
}

onNavigate(route);
onUnauthorized(() => void askForKey(ENDED));
document.addEventListener("visibilitychange", () => void lookWhoIsThere());
void persistent(readSession).then(enter);
