// How fast something goes, over the last few seconds.

const WINDOW_MS = 5_000;
const SAMPLE_MS = 200;

export class Pace {
  #samples: { at: number; total: number }[] = [];

  /** Say how many bytes have gone in all, at a time in milliseconds of any clock. */
  feed(at: number, total: number): void {
    const last = this.#samples.at(-1);
    if (last && at - last.at < SAMPLE_MS) return;
    this.#samples.push({ at, total });
    while (this.#samples.length > 2 && at - this.#samples[1]!.at >= WINDOW_MS) this.#samples.shift();
  }

  /** Forget what was: after a pause nothing of it is true. */
  reset(): void {
    this.#samples = [];
  }

  /** Bytes a second at a time; null where it is too early to tell. */
  at(now: number): number | null {
    const [first] = this.#samples;
    const last = this.#samples.at(-1);
    if (!first || !last || last.at - first.at < 2 * SAMPLE_MS) return null;
    return ((last.total - first.total) / (Math.max(now, last.at) - first.at)) * 1000;
  }
}
