// The recording, played: where it stands, and going on when its address has run out.

import { Problem, respond } from "../api.ts";
import { keep, kept } from "../kept.ts";

/** What the reader chose, for the next recording too. */
const SPEED_KEY = "bucketscribe:speed";
const VOLUME_KEY = "bucketscribe:volume";

export const SPEEDS = [0.75, 1, 1.25, 1.5, 1.75, 2];

/** Playing on for so long after a failure shows that it is over, and the next is another one. */
const RECOVERED_SECONDS = 1;

/** Nothing for so long after a wait began: Chromium goes on waiting where the bucket has said no. */
const STALLED_SECONDS = 4;

/** Failing again so soon after beginning anew is no matter of an address that has run out. */
const RENEWED_SECONDS = 15;

/**
 * One recording in a media element. `moment` is dispatched as it moves, `sought` before it does
 * because somebody wants it elsewhere, `problem` when it cannot be played, or can be again.
 */
export class Playback extends EventTarget {
  readonly media: HTMLMediaElement;
  /** Seconds as the server measured them; the element knows better once it has the recording. */
  length: number | null = null;
  /** Why it cannot be played, in words. */
  problem: string | null = null;
  readonly #address: string;
  #recovering = false;
  #renewed = -Infinity;
  #last = 0;
  #frame = 0;
  #stall: ReturnType<typeof setTimeout> | undefined;

  constructor(
    address: string,
    type: string,
    /** Whether to fetch nothing before it is played: it may be gone. */
    quiet: boolean,
    signal: AbortSignal,
  ) {
    super();
    this.#address = address;
    this.media = document.createElement(type.startsWith("video/") ? "video" : "audio");
    this.media.preload = quiet ? "none" : "metadata";
    if (this.media instanceof HTMLVideoElement) this.media.playsInline = true;
    this.media.src = address;
    this.speed = Number(kept(SPEED_KEY) ?? 1);
    const volume = Number(kept(VOLUME_KEY) ?? 1);
    if (volume >= 0 && volume <= 1) this.media.volume = volume;
    const listen = (types: string[], listener: () => void): void => {
      for (const name of types) this.media.addEventListener(name, listener, { signal });
    };
    listen(["play"], () => this.#tick());
    listen(["timeupdate", "seeking", "seeked", "durationchange"], () => this.#moved());
    listen(["error"], () => void this.#fail());
    listen(["waiting", "seeking", "progress"], () => this.#expectMore());
    listen(["canplay"], () => this.#tellProblem(null));
    signal.addEventListener("abort", () => this.#release(), { once: true });
  }

  get at(): number {
    return this.media.currentTime;
  }

  get duration(): number {
    const { duration } = this.media;
    return Number.isFinite(duration) && duration > 0 ? duration : (this.length ?? 0);
  }

  get playing(): boolean {
    return !this.media.paused && !this.media.ended;
  }

  get speed(): number {
    return this.media.playbackRate;
  }

  set speed(speed: number) {
    const usable = SPEEDS.includes(speed) ? speed : 1;
    this.media.defaultPlaybackRate = this.media.playbackRate = usable;
    keep(SPEED_KEY, String(usable));
  }

  set volume(volume: number) {
    this.media.volume = volume;
    this.media.muted = false;
    keep(VOLUME_KEY, String(volume));
  }

  play(): void {
    if (this.media.error) this.#renew();
    // Refused or interrupted, it stays paused, and the button says so.
    this.media.play().catch(() => undefined);
  }

  toggle(): void {
    if (this.playing) this.media.pause();
    else this.play();
  }

  seek(seconds: number): void {
    this.#last = Math.max(0, this.duration > 0 ? Math.min(seconds, this.duration) : seconds);
    this.media.currentTime = this.#last;
    this.dispatchEvent(new Event("sought"));
    this.#moved();
  }

  #moved(): void {
    if (this.media.error) return;
    if (this.#recovering && this.playing && this.at > this.#last + RECOVERED_SECONDS)
      this.#recovering = false;
    if (!this.#recovering && this.media.readyState > 0) this.#last = this.at;
    this.dispatchEvent(new Event("moment"));
  }

  #tick(): void {
    cancelAnimationFrame(this.#frame);
    if (!this.playing) return;
    this.dispatchEvent(new Event("moment"));
    this.#frame = requestAnimationFrame(() => this.#tick());
  }

  /** The address behind ours is signed for an hour, say: a new one is asked for, once per failure. */
  async #fail(): Promise<void> {
    clearTimeout(this.#stall);
    const begun = this.#last > 0 || this.media.readyState > 0;
    const again = this.#recovering && performance.now() < this.#renewed + RENEWED_SECONDS * 1000;
    if (!begun || again) return this.#tellProblem(await this.#reason());
    const { playing } = this;
    this.#renew();
    if (playing) this.play();
  }

  /** Have our address lead to the recording anew, and stand where it stood. */
  #renew(): void {
    this.#recovering = true;
    this.#renewed = performance.now();
    this.media.src = this.#address;
    this.media.currentTime = this.#last;
  }

  /** Where it waits for more of the recording, and none comes, that is a failure, too. */
  #expectMore(): void {
    clearTimeout(this.#stall);
    this.#stall = setTimeout(() => {
      const { readyState, seeking, error, HAVE_METADATA, HAVE_CURRENT_DATA } = this.media;
      if (error || readyState < HAVE_METADATA) return;
      if (seeking || (this.playing && readyState <= HAVE_CURRENT_DATA)) void this.#fail();
    }, STALLED_SECONDS * 1000);
  }

  #tellProblem(problem: string | null): void {
    if (problem === this.problem) return;
    this.problem = problem;
    this.dispatchEvent(new Event("problem"));
  }

  async #reason(): Promise<string> {
    try {
      // A redirection into the bucket is not followed: it only matters whether there is one.
      const response = await fetch(this.#address, { redirect: "manual" });
      if (response.type !== "opaqueredirect") await respond(this.#address);
    } catch (error) {
      if (error instanceof Problem) return error.message;
      return "The recording cannot be reached. Check the connection, then press Play.";
    }
    return "This browser cannot play the recording. Its transcript can be read all the same.";
  }

  #release(): void {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#stall);
    this.media.pause();
    this.media.removeAttribute("src");
    this.media.load();
  }
}
