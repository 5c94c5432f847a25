// The screen of one transcription, at /t/{id}.

import { json, Problem, request, type Transcription } from "../api.ts";
import { element } from "../element.ts";
import { clock } from "../format.ts";
import { notice } from "../notice.ts";
import { copy } from "./copying.ts";
import { addressOf, follow, isFinal } from "./follow.ts";
import { head } from "./head.ts";
import { keys } from "./keys.ts";
import { momentIn, permalink } from "./permalink.ts";
import { Playback } from "./playback.ts";
import { player, type Player } from "./player.ts";
import { prepare } from "./prepare.ts";
import { reader, type Reader } from "./reader.ts";
import { secondsOf, type Peaks } from "./waveform.ts";
import "./view.css";

/** Stages in which the recording's shape is known. */
const WITH_PEAKS = ["transcribing", "aligning", "diarizing", "saving"];

/** Fills `root` with the transcription's screen, and keeps it up to date until the signal ends. */
export function showTranscription(root: HTMLElement, id: string, signal: AbortSignal): void {
  let playing: { playback: Playback; bar: Player; drawn: boolean } | undefined;
  let reading: { run: number; end: AbortController; reader?: Reader } | undefined;

  const top = head({
    async rename(name) {
      if (name) changed(await request<Transcription>(addressOf(id), json("PATCH", { name })));
    },
    cancel: () => void ask("cancel"),
    retry: () => void ask("retry"),
  });
  const deck = element("div", { class: "deck", "data-holds": "all" });
  const aside = element("aside", { class: "beside", "aria-label": "About the recording", hidden: true });
  const body = element("section", { class: "transcript", "aria-label": "Transcript" }, linesToCome());
  const columns = element("div", { class: "columns" }, body, aside);
  const keyboard = keys(
    {
      toggle: () => playing?.playback.toggle(),
      skip: (seconds) => playing?.playback.seek(playing.playback.at + seconds),
      search: () => reading?.reader?.find.focus(),
      match: (by) => reading?.reader?.find.step(by) ?? false,
    },
    signal,
  );
  root.replaceChildren(element("article", { class: "transcription" }, top.element, deck, columns, keyboard.list));

  const again = follow(id, { changed, gone, trouble: (problem) => notice(problem.message) }, signal);

  function changed(now: Transcription): void {
    // An answer may come when the screen is another one's.
    if (signal.aborted) return;
    top.show(now);
    const readable = now.state === "completed" || now.partial;
    // The room of what is to come is kept free for it.
    deck.dataset["holds"] = readable ? "all" : now.accepted || !isFinal(now) ? "player" : "none";
    if (!playing && now.accepted) openPlayer(now);
    if (playing && !playing.drawn && hasPeaks(now)) void draw();
    if (reading && (!readable || reading.run !== now.run)) closeTranscript();
    if (!reading && readable) void openTranscript(now);
    if (!readable) body.replaceChildren(waiting(now));
  }

  async function ask(what: "cancel" | "retry"): Promise<void> {
    try {
      changed(await request<Transcription>(`${addressOf(id)}/${what}`, { method: "POST" }));
      again();
    } catch (error) {
      notice(wordsOf(error));
    }
  }

  function gone(): void {
    document.title = "Not found · Bucketscribe";
    root.replaceChildren(
      element(
        "div",
        { class: "not-found" },
        element("h1", {}, "There is no such transcription"),
        element("p", {}, "It was deleted, or the address is not quite right."),
        element("a", { class: "button", href: "/" }, "All transcriptions"),
      ),
    );
  }

  function openPlayer(now: Transcription): void {
    const quiet = now.state === "canceled" || now.state === "failed";
    const playback = new Playback(`${addressOf(id)}/media`, now.type, quiet, signal);
    playback.length = now.duration;
    const bar = player(playback, () => void copyLink(), signal);
    playing = { playback, bar, drawn: false };
    deck.prepend(bar.element);
    if (playback.media instanceof HTMLVideoElement) showVideo(playback.media);
    const moment = momentIn(location.search);
    if (moment !== null) playback.seek(moment);
  }

  function showVideo(video: HTMLVideoElement): void {
    video.setAttribute("aria-label", "Recording");
    aside.prepend(video);
    aside.hidden = false;
    // Some files of a video's type have only sound.
    video.addEventListener("loadedmetadata", () => (video.hidden = video.videoWidth === 0), { signal });
    video.addEventListener("click", () => playing?.playback.toggle());
  }

  async function draw(): Promise<void> {
    if (!playing) return;
    playing.drawn = true;
    try {
      const peaks = await request<Peaks>(`${addressOf(id)}/peaks`, { signal });
      playing.playback.length ??= secondsOf(peaks);
      await playing.bar.draw(peaks);
    } catch (error) {
      // The plain slider does as well.
      if (!(error instanceof Problem) && !signal.aborted) throw error;
    }
  }

  async function openTranscript(now: Transcription): Promise<void> {
    const end = new AbortController();
    const opened: NonNullable<typeof reading> = { run: now.run, end };
    reading = opened;
    const until = AbortSignal.any([signal, end.signal]);
    body.replaceChildren(linesToCome());
    try {
      const prepared = await prepare(id, until);
      if (until.aborted || !playing) return;
      const { playback } = playing;
      const names = { ...prepared.file.speakers, ...now.speakers };
      const made = reader({ id, prepared, playback, names, save: saveSpeaker, freePart }, until);
      opened.reader = made;
      made.tools.append(keyboard.button);
      deck.append(made.tools);
      body.replaceChildren(made.text, made.back);
      if (made.legend) aside.append(made.legend);
      if (made.legend) aside.hidden = false;
      if (momentIn(location.search) !== null) await made.reveal();
    } catch (error) {
      if (until.aborted) return;
      const retry = (): void => {
        closeTranscript();
        void openTranscript(now);
      };
      body.replaceChildren(
        element("p", { class: "transcript-problem", role: "alert" }, wordsOf(error)),
        element("button", { type: "button", class: "button button-quiet", onclick: retry }, "Try again"),
      );
    }
  }

  function closeTranscript(): void {
    reading?.end.abort();
    reading?.reader?.tools.remove();
    reading?.reader?.legend?.remove();
    aside.hidden = !aside.querySelector("video");
    reading = undefined;
  }

  async function saveSpeaker(label: string, name: string): Promise<Record<string, string>> {
    const now = await request<Transcription>(addressOf(id), json("PATCH", { speakers: { [label]: name } }));
    changed(now);
    return now.speakers;
  }

  async function copyLink(): Promise<void> {
    const at = playing?.playback.at ?? 0;
    const done = await copy(location.origin + permalink(id, at));
    notice(done ? `The link to ${clock(at)} is copied.` : "The browser does not allow copying here.");
  }

  /** Between what sticks to the window's top, and the player where it lies at the bottom. */
  function freePart(): { top: number; bottom: number } {
    const bar = playing?.bar.element;
    const below = bar !== undefined && getComputedStyle(bar).position === "fixed";
    const tools = reading?.reader?.tools.getBoundingClientRect();
    return {
      top: Math.max(0, tools?.bottom ?? 0),
      bottom: below ? bar.getBoundingClientRect().top : innerHeight,
    };
  }
}

function hasPeaks({ state, partial, progress }: Transcription): boolean {
  return (
    state === "completed" || partial || (state === "running" && WITH_PEAKS.includes(progress?.stage ?? ""))
  );
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : "That did not work. Try again.";
}

/** Lines where text will be, so that nothing moves when it comes. */
function linesToCome(): HTMLElement {
  const lines = Array.from({ length: 9 }, () => element("div"));
  return element("div", { class: "text-to-come", "aria-hidden": "true" }, ...lines);
}

function waiting({ state }: Transcription): Node {
  const words: Partial<Record<Transcription["state"], string>> = {
    uploading: "The transcript will stand here once the recording is uploaded and transcribed.",
    completing: "The transcript will stand here.",
    queued: "The transcript will stand here. You can leave this page meanwhile.",
    running: "The transcript will stand here. You can listen, or leave this page meanwhile.",
  };
  const text = words[state];
  return text
    ? element("div", {}, element("p", { class: "waiting" }, text), linesToCome())
    : element("p", { class: "visually-hidden" }, "There is no transcript.");
}
