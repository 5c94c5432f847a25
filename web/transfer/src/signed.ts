// URLs of parts, signed in batches before they are needed, so that no part waits for one.

import type { SignedParts } from "./wire.ts";

/** The first answer is wanted soon: as many as fit into the first packets of a connection. */
export const FIRST_BATCH = 18;
const BATCH = 100;
/** With fewer than so many left, more are asked for. */
const AHEAD = 24;

interface Url {
  url: string;
  /** When it was asked for. */
  asked: number;
  /** Not begun with after this time, in milliseconds of the clock. */
  until: number;
  /** Renewed from this time on, where there is time to. */
  renewAt: number;
}

export class Signed {
  readonly #sign: (numbers: readonly number[]) => Promise<SignedParts>;
  readonly #news: (error: unknown) => void;
  readonly #clock: () => number;
  readonly #urls = new Map<number, Url>();
  #asking = false;
  #batch = FIRST_BATCH;

  /**
   * `first` are URLs that have just come. `news` is told when URLs have come, or why none will. `clock`
   * counts on while the machine sleeps.
   */
  constructor(
    sign: (numbers: readonly number[]) => Promise<SignedParts>,
    first: SignedParts | null,
    news: (error: unknown) => void,
    clock: () => number = Date.now,
  ) {
    this.#sign = sign;
    this.#news = news;
    this.#clock = clock;
    if (first) this.#take(first, clock());
  }

  /** How many parts to come `ahead` should be told. */
  static readonly horizon = AHEAD + BATCH;

  /** A part's URL, if there is one that is good now. */
  get(number: number): string | null {
    const found = this.#urls.get(number);
    return found && this.#clock() < found.until ? found.url : null;
  }

  /** The bucket refused a URL: neither it nor any as old will be given again. */
  drop(number: number, url: string): void {
    const refused = this.#urls.get(number);
    if (refused?.url !== url) return;
    for (const [other, { asked }] of this.#urls) if (asked <= refused.asked) this.#urls.delete(other);
  }

  /** Say which parts come next, in order; asks for URLs if few are left. */
  ahead(upcoming: readonly number[]): void {
    if (this.#asking) return;
    const now = this.#clock();
    const lacking = upcoming.filter((number) => {
      const found = this.#urls.get(number);
      return !found || now >= found.renewAt;
    });
    const near = upcoming[Math.min(AHEAD, upcoming.length) - 1];
    const [first] = lacking;
    if (first === undefined || near === undefined || upcoming.indexOf(first) > upcoming.indexOf(near)) return;
    void this.#ask(lacking.slice(0, this.#batch));
  }

  async #ask(numbers: readonly number[]): Promise<void> {
    this.#asking = true;
    // What was asked for ages from here on.
    const asked = this.#clock();
    let error: unknown = null;
    try {
      this.#take(await this.#sign(numbers), asked);
    } catch (caught) {
      error = caught ?? new Error("signing failed");
    }
    this.#asking = false;
    this.#news(error);
  }

  #take({ urls, expires }: SignedParts, asked: number): void {
    const life = expires * 1000;
    for (const [number, url] of urls) {
      this.#urls.set(number, { url, asked, until: asked + life * 0.95, renewAt: asked + life * 0.75 });
    }
    this.#batch = BATCH;
  }
}
