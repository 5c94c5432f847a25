// Fetches a transcript and has it laid out by a worker.

import { respond } from "../api.ts";
import type { Prepared } from "./prepare.worker.ts";

export type { Prepared };

/** The transcript, ready to be shown. Raises Problem; an Error if the file is not a transcript. */
export async function prepare(id: string, signal: AbortSignal): Promise<Prepared> {
  const response = await respond(`/transcriptions/${encodeURIComponent(id)}/transcript.json`, { signal });
  const file = await response.arrayBuffer();
  const worker = new Worker(new URL("./prepare.worker.ts", import.meta.url), { type: "module" });
  try {
    return await new Promise<Prepared>((resolve, reject) => {
      const fail = (): void =>
        reject(new Error("The transcript cannot be read."));
      worker.onmessage = ({ data }: MessageEvent<Prepared>) => resolve(data);
      worker.onerror = fail;
      worker.onmessageerror = fail;
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      worker.postMessage(file, [file]);
    });
  } finally {
    worker.terminate();
  }
}
