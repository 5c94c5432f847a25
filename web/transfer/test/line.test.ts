import { beforeEach, expect, test, vi } from "vitest";
import { type Job, Line, type Sender } from "../src/line.ts";
import type { Put } from "../src/part.ts";

/** A connection that does what the test says, for there is none without a browser. */
class Connection {
  static readonly all: Connection[] = [];
  readonly upload = {};
  onerror: (() => void) | null = null;
  onabort: (() => void) | null = null;

  open(): void {
    Connection.all.push(this);
  }

  send(): void {}

  abort(): void {
    this.onabort?.();
  }
}

beforeEach(() => {
  Connection.all.length = 0;
  vi.useFakeTimers();
  vi.stubGlobal("XMLHttpRequest", Connection);
  vi.stubGlobal("navigator", { onLine: true });
  vi.stubGlobal("addEventListener", () => undefined);
  vi.stubGlobal("removeEventListener", () => undefined);
  return () => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
  };
});

/** Sends one part after another, as many as the line lets it. */
class OnePart implements Sender {
  put: Put | null = null;
  left = 1;

  next(): Job | null {
    if (!this.left) return null;
    this.left -= 1;
    return {
      url: "http://127.0.0.1/",
      body: new Blob(["part"]),
      tries: 0,
      started: (put) => (this.put = put),
      sent: () => undefined,
      over: () => (this.left += 1),
    };
  }

  tick(): void {}
}

test("where nobody gets through, a try that was stopped by a pause makes room for the next", async () => {
  const line = new Line();
  const sender = new OnePart();
  await line.join(sender, new AbortController().signal);
  line.look();
  Connection.all[0]?.onerror?.();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(Connection.all).toHaveLength(2);
  sender.put?.stop();
  await vi.advanceTimersByTimeAsync(20_000);
  expect(Connection.all).toHaveLength(3);
  line.leave(sender);
  expect(vi.getTimerCount()).toBe(0);
});

test("who gives up waiting for a turn leaves the others theirs", async () => {
  const line = new Line();
  const first = new OnePart();
  first.left = 1000;
  await line.join(first, new AbortController().signal);
  const stop = new AbortController();
  const gone = line.join(new OnePart(), stop.signal);
  const third = line.join(new OnePart(), new AbortController().signal);
  stop.abort(new Error("gone"));
  await expect(gone).rejects.toThrow("gone");
  line.leave(first);
  await third;
});
