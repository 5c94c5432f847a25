// A transcription as it changes, until it is final: server-sent events, asked for again where they end.

import { Problem, request, type Transcription } from "../api.ts";

const RETRY_SECONDS = [1, 2, 5, 10, 30];
/** Out of sight for so long, nothing is followed: browsers allow a server few connections at once. */
const HIDDEN_SECONDS = 60;

const FINAL = ["completed", "failed", "canceled", "expired"];

export function isFinal({ state }: Transcription): boolean {
  return FINAL.includes(state);
}

export interface Follower {
  changed(transcription: Transcription): void;
  /** There is no such transcription, or no longer. */
  gone(): void;
  /** It cannot be read now; it is tried again, and told only once. */
  trouble(problem: Problem): void;
}

export const addressOf = (id: string): string => `/transcriptions/${encodeURIComponent(id)}`;

/** Read it, and follow it while it is not final. Call the returned function to begin anew, after a retry. */
export function follow(id: string, follower: Follower, signal: AbortSignal): () => void {
  let source: EventSource | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let hidden: ReturnType<typeof setTimeout> | undefined;
  let failures = 0;
  let over = false;

  function stop(): void {
    clearTimeout(timer);
    source?.close();
    source = undefined;
  }

  function seen(): void {
    clearTimeout(hidden);
    if (document.visibilityState === "hidden") hidden = setTimeout(stop, HIDDEN_SECONDS * 1000);
    else if (!source && !over) void begin();
  }

  function tell(transcription: Transcription): void {
    failures = 0;
    over = isFinal(transcription);
    if (over) stop();
    follower.changed(transcription);
  }

  async function begin(): Promise<void> {
    stop();
    try {
      const transcription = await request<Transcription>(addressOf(id), { signal });
      tell(transcription);
      if (!over) listen();
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Problem)) throw error;
      if (error.status === 404) {
        over = true;
        return follower.gone();
      }
      // Asking for a key is the frame's business, which begins anew afterwards.
      if (error.status === 401) return;
      if (failures === 0) follower.trouble(error);
      later();
    }
  }

  function later(): void {
    timer = setTimeout(
      () => void begin(),
      1000 * RETRY_SECONDS[Math.min(failures++, RETRY_SECONDS.length - 1)]!,
    );
  }

  function listen(): void {
    stop();
    source = new EventSource(`${addressOf(id)}/events`);
    source.addEventListener("transcription", ({ data }: MessageEvent<string>) => {
      tell(JSON.parse(data) as Transcription);
    });
    source.addEventListener("error", () => {
      // An ended stream is taken up again by the browser; a refused one is not, and reading it says why.
      if (source?.readyState === EventSource.CLOSED) later();
    });
  }

  document.addEventListener("visibilitychange", seen, { signal });
  signal.addEventListener(
    "abort",
    () => {
      clearTimeout(hidden);
      stop();
    },
    { once: true },
  );
  void begin();
  return () => void begin();
}
