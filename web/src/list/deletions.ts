// Deleting with a way back: the row goes at once, the request when the way back does, or the page.

import { Problem, request } from "../api.ts";
import { notice } from "../notice.ts";

const SECONDS = 8;

export class Deletions {
  /** Not yet asked for. */
  #pending = new Set<string>();
  #asked = new Set<string>();
  #changed: () => void;
  #undone: (id: string) => void;

  /** `changed` is called when a row has gone or come back, `undone` when somebody wanted it back. */
  constructor(changed: () => void, undone: (id: string) => void) {
    this.#changed = changed;
    this.#undone = undone;
    addEventListener("pagehide", () => {
      for (const id of this.#pending) {
        this.#asked.add(id);
        void fetch(`/transcriptions/${id}`, { method: "DELETE", keepalive: true });
      }
      this.#pending.clear();
    });
  }

  /** Whether its row is to be seen no more. */
  has(id: string): boolean {
    return this.#pending.has(id) || this.#asked.has(id);
  }

  delete(id: string, name: string): void {
    this.#pending.add(id);
    this.#changed();
    const undo = { label: "Undo", seconds: SECONDS, run: () => this.#undo(id) };
    notice(`Deleted ${name}.`, undo, () => void this.#send(id, name));
  }

  /** The server no longer has it. */
  gone(id: string): void {
    this.#pending.delete(id);
    this.#asked.delete(id);
  }

  #undo(id: string): void {
    // A page that was left, and came back from the browser's cache, has already asked for it.
    if (!this.#pending.has(id)) return notice("It is too late: the server has deleted it.");
    this.#comeBack(id);
    this.#undone(id);
  }

  #comeBack(id: string): void {
    this.gone(id);
    this.#changed();
  }

  async #send(id: string, name: string): Promise<void> {
    if (!this.#pending.delete(id)) return;
    this.#asked.add(id);
    try {
      await request(`/transcriptions/${id}`, { method: "DELETE", keepalive: true });
    } catch (error) {
      if (error instanceof Problem && error.status === 404) return;
      this.#comeBack(id);
      const reason = error instanceof Problem ? error.message : "Try again.";
      notice(`${name} was not deleted. ${reason}`);
    }
  }
}
