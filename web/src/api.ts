// The API, as the page uses it. Every refusal is a Problem (RFC 9457) whose message says what to do.

export type State =
  | "uploading"
  | "completing"
  | "queued"
  | "running"
  | "completed"
  | "failed"
  | "canceled"
  | "expired";

/** A transcription as its owner sees it; times are ISO 8601, lengths seconds, sizes bytes. */
export interface Transcription {
  id: string;
  state: State;
  progress: { stage: string; percent: number; seconds_left: number | null } | null;
  name: string;
  type: string;
  size: number | null;
  created: string;
  updated: string;
  options: Record<string, unknown>;
  run: number;
  language: string | null;
  duration: number | null;
  warnings: { code: string; message: string }[];
  error: { code: string; message: string; stage?: string | null; at_seconds?: number | null } | null;
  partial: boolean;
  /** Its recording was accepted: only then can it be played, and transcribed again. */
  accepted: boolean;
  /** Where it is fetched from, if it was online: it can be transcribed again anyway. */
  url: string | null;
  speakers: Record<string, string>;
}

/** Whether a failed or canceled one can be transcribed again without being uploaded again. */
export function isRepeatable({ accepted, url }: Transcription): boolean {
  return accepted || url !== null;
}

export interface TranscriptionPage {
  transcriptions: Transcription[];
  cursor: string | null;
}

/** Who is signed in. `auth` are the ways one can; none on a laptop, where everybody is `local`. */
export interface Session {
  auth: ("keys" | "oidc")[];
  owner: string | null;
  scopes: string[];
  expires: number | null;
}

/** What a recording may be like, and what may be asked for. */
export interface Choices {
  maxUploadBytes: number;
  uploadIdleSeconds: number;
  extensions: string[];
  languages: string[];
  models: string[];
  defaultModel: string;
}

export class Problem extends Error {
  override name = "Problem";
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, detail: string) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

const unauthorized = new Set<() => void>();

/** Call when the server no longer knows who we are. */
export function onUnauthorized(listener: () => void): void {
  unauthorized.add(listener);
}

/** Say that an answer was 401; for those who ask the API without `request`. */
export function reportUnauthorized(): void {
  for (const listener of unauthorized) listener();
}

/** Ask the API. Raises Problem; one of code `unreachable` where there is no answer. */
export async function request<T>(path: string, init: RequestInit = {}): Promise<T> {
  const response = await respond(path, init);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

/** As `request`, for what is not JSON or is too large to be parsed where it was asked for. */
export async function respond(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...init });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    const detail = "The server cannot be reached. Check the connection; nothing is lost.";
    throw new Problem(0, "unreachable", detail);
  }
  if (response.status === 401 && path !== "/session") reportUnauthorized();
  if (!response.ok) throw await problemOf(response);
  return response;
}

export function json(method: string, body: unknown): RequestInit {
  return { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

async function problemOf(response: Response): Promise<Problem> {
  try {
    const { code, detail } = (await response.json()) as { code?: string; detail?: string };
    if (code && detail) return new Problem(response.status, code, detail);
  } catch {
    // Not ours: somebody between us and the server has answered.
  }
  const detail = `The server answered ${response.status}. Try again in a moment.`;
  return new Problem(response.status, "no_answer", detail);
}
