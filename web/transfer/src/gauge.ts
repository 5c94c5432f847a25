import type { Progress } from "./options.ts";
import { Pace } from "./pace.ts";
import type { Sending } from "./sending.ts";

/** Reads off how far an upload is. */
export class Gauge {
  /** Bytes that went over the line, those that went in vain included. */
  passed = 0;
  readonly #pace = new Pace();

  /** Bytes a second; 0 where that is not known. */
  get speed(): number {
    return this.#pace.at(performance.now()) ?? 0;
  }

  /** `idle`: nothing is meant to be sent at the moment, so that no speed is told. */
  read(
    size: number,
    sent: number,
    sending: Sending | null,
    waiting: Progress["waiting"],
    idle: boolean,
  ): Progress {
    const now = performance.now();
    const inFlight = sending?.inFlight ?? 0;
    if (inFlight && !waiting && !idle) this.#pace.feed(now, this.passed);
    else this.#pace.reset();
    const bytesPerSecond = this.#pace.at(now);
    return {
      sent,
      size,
      resumed: sending?.resumed ?? 0,
      bytesPerSecond,
      secondsLeft: bytesPerSecond ? (size - sent) / bytesPerSecond : null,
      waiting,
      inFlight,
    };
  }
}
