import { beforeEach, expect, test, vi } from "vitest";
import { TransferError } from "../src/errors.ts";
import { Server } from "../src/server.ts";
import { type Begun, Wire } from "../src/wire.ts";

const BEGUN: Begun = { id: "i", key: "k", uploadId: "u", bucket: "b", partSize: 5, expires: 600 };

/** A server that answers each question with the next of `statuses`; 0 is no answer. */
function answering(statuses: (number | Promise<number>)[], stop = new AbortController()): Server {
  vi.stubGlobal("fetch", async () => {
    const status = (await statuses.shift()) ?? 200;
    if (!status) throw new TypeError("failed");
    return new Response("[]", { status });
  });
  return new Server(new Wire("", () => ({})), stop.signal);
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("navigator", { onLine: true });
  vi.stubGlobal("addEventListener", () => undefined);
  vi.stubGlobal("removeEventListener", () => undefined);
  return () => {
    vi.useRealTimers();
    vi.unstubAllGlobals();
  };
});

test("a server that was away for long may make a mistake when it is back", async () => {
  const server = answering([...Array<number>(20).fill(0), 500]);
  const listed = server.list(BEGUN);
  await vi.advanceTimersByTimeAsync(300_000);
  expect((await listed).size).toBe(0);
});

test("a server that makes nothing but mistakes is given up", async () => {
  const listed = answering(Array<number>(50).fill(500)).list(BEGUN);
  const refused = expect(listed).rejects.toMatchObject({ status: 500 });
  await vi.advanceTimersByTimeAsync(300_000);
  await refused;
});

test("a server is away from the first failure until there is an answer, tries included", async () => {
  let answer: (status: number) => void = () => undefined;
  const server = answering([0, new Promise<number>((resolve) => (answer = resolve))]);
  const listed = server.list(BEGUN);
  expect(server.isAway).toBe(false);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(server.isAway).toBe(true);
  answer(200);
  await listed;
  expect(server.isAway).toBe(false);
});

test("nothing is asked any more when the upload is over", async () => {
  const stop = new AbortController();
  const listed = answering(Array<number>(50).fill(0), stop).list(BEGUN);
  const ended = expect(listed).rejects.toThrow("over");
  await vi.advanceTimersByTimeAsync(1_000);
  stop.abort(new Error("over"));
  await ended;
});

test("an upload is kept alive once in a quarter of the time that it may be idle", async () => {
  const server = answering([]);
  const asked = vi.spyOn(globalThis, "fetch");
  for (let second = 0; second < 600; second++) {
    await vi.advanceTimersByTimeAsync(1_000);
    server.keepAlive(BEGUN, 0);
  }
  expect(asked).toHaveBeenCalledTimes(4);
});

test("a mistake in the caller's own headers is not taken for a lost connection", async () => {
  const wire = new Wire("", () => {
    throw new RangeError("no token");
  });
  const asked = new Server(wire, new AbortController().signal).list(BEGUN);
  await expect(asked).rejects.toThrow(RangeError);
  await expect(asked).rejects.not.toBeInstanceOf(TransferError);
});
