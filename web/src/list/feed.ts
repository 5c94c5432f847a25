// What the server says of the list, as it happens: server-sent events, and where there are none, a look now
// and then.

import { Problem, reportUnauthorized, request, type Transcription, type TranscriptionPage } from "../api.ts";
import { readSession } from "../session/session.ts";

export interface Listener {
  begins(page: TranscriptionPage): void;
  changed(transcription: Transcription): void;
  deleted(id: string): void;
  /** Whether the server can be reached. */
  connected(yes: boolean): void;
}

const STREAM = "/transcriptions/events?wait=3600";
const HIDDEN_SECONDS = 60;
const SILENT_SECONDS = 4;
const RETRY_SECONDS = [2, 4, 8, 15, 30];

/** Follows the list until `signal` ends, but not while the page has been out of sight for a while. */
export function followList(listener: Listener, signal: AbortSignal): void {
  let source: EventSource | null = null;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let doubt: ReturnType<typeof setTimeout> | undefined;
  let hidden: ReturnType<typeof setTimeout> | undefined;
  let tries = 0;

  function open(): void {
    clearTimeout(retry);
    if (source || signal.aborted) return;
    source = new EventSource(STREAM);
    source.addEventListener("open", () => {
      tries = 0;
      clearTimeout(doubt);
      doubt = undefined;
      listener.connected(true);
    });
    source.addEventListener("error", () => {
      if (source?.readyState === EventSource.CLOSED) void refused();
      // It tries again by itself; that the stream ends now and then is nothing to speak of.
      else doubt ??= setTimeout(() => listener.connected(false), SILENT_SECONDS * 1000);
    });
    source.addEventListener("list", (event) => listener.begins(parsed<TranscriptionPage>(event)));
    source.addEventListener("transcription", (event) => listener.changed(parsed<Transcription>(event)));
    source.addEventListener("deleted", (event) => listener.deleted(parsed<{ id: string }>(event).id));
  }

  function close(): void {
    source?.close();
    source = null;
    clearTimeout(retry);
    clearTimeout(doubt);
    doubt = undefined;
  }

  async function refused(): Promise<void> {
    close();
    const seconds = RETRY_SECONDS[Math.min(tries, RETRY_SECONDS.length - 1)] ?? 30;
    tries += 1;
    retry = setTimeout(open, seconds * 1000);
    try {
      const session = await readSession();
      if (signal.aborted) return;
      if (session.owner === null) {
        close();
        reportUnauthorized();
        return;
      }
      const page = await request<TranscriptionPage>("/transcriptions?limit=50", { signal });
      listener.connected(true);
      listener.begins(page);
    } catch (error) {
      if (signal.aborted) return;
      listener.connected(error instanceof Problem && error.status > 0 && error.status < 500);
    }
  }

  function seen(): void {
    clearTimeout(hidden);
    if (document.visibilityState === "visible") open();
    else hidden = setTimeout(close, HIDDEN_SECONDS * 1000);
  }

  document.addEventListener("visibilitychange", seen, { signal });
  addEventListener("online", () => {
    tries = 0;
    seen();
  }, { signal });
  signal.addEventListener("abort", () => {
    clearTimeout(hidden);
    close();
  });
  seen();
}

function parsed<T>(event: Event): T {
  return JSON.parse((event as MessageEvent<string>).data) as T;
}
