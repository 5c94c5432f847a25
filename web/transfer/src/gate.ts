/** Where an upload waits while it is paused. */
export class Gate {
  isClosed: boolean;
  readonly #signal: AbortSignal;
  #let: (() => void) | null = null;

  /** Whoever waits is let go, too, when `signal` says that the upload is over. */
  constructor(isClosed: boolean, signal: AbortSignal) {
    this.isClosed = isClosed;
    this.#signal = signal;
    signal.addEventListener("abort", () => this.#let?.(), { once: true });
  }

  open(): void {
    this.isClosed = false;
    this.#let?.();
  }

  /** Raises the signal's reason. */
  async passed(): Promise<void> {
    while (this.isClosed && !this.#signal.aborted) {
      await new Promise<void>((resolve) => (this.#let = resolve));
    }
    this.#signal.throwIfAborted();
  }
}
