import { expect, test } from "vitest";
import { Remembered } from "../src/remembered.ts";
import type { Begun } from "../src/wire.ts";

const BEGUN: Begun = { id: "i", key: "k", uploadId: "u", bucket: "b", partSize: 5, expires: 600 };
const FILE = new Blob(["one two three"]);
const NEVER_IDLE = JSON.stringify({ begun: { ...BEGUN, expires: undefined }, sample: "1", at: 1 });
const WEEK_MS = 7 * 24 * 3600 * 1000;

/** What a browser's storage does, in memory; with `room` for so many characters. */
class MemoryStorage implements Storage {
  readonly #items = new Map<string, string>();
  readonly #room: number;

  constructor(room = Infinity) {
    this.#room = room;
  }

  get length(): number {
    return this.#items.size;
  }

  clear(): void {
    this.#items.clear();
  }

  getItem(name: string): string | null {
    return this.#items.get(name) ?? null;
  }

  key(place: number): string | null {
    return [...this.#items.keys()][place] ?? null;
  }

  removeItem(name: string): void {
    this.#items.delete(name);
  }

  setItem(name: string, value: string): void {
    if (value.length > this.#room) throw new DOMException("full", "QuotaExceededError");
    this.#items.set(name, value);
  }
}

test("an upload is found by the next page, and forgotten when it is over", async () => {
  const storage = new MemoryStorage();
  await new Remembered(storage, ["a"], FILE).save(BEGUN);
  const later = new Remembered(storage, ["a"], FILE);
  expect(await later.find()).toEqual(BEGUN);
  later.forget(BEGUN);
  expect(await later.find()).toBeNull();
});

test("another file, or another content of the same name and size, is another upload", async () => {
  const storage = new MemoryStorage();
  await new Remembered(storage, ["a"], FILE).save(BEGUN);
  expect(await new Remembered(storage, ["b"], FILE).find()).toBeNull();
  expect(await new Remembered(storage, ["a"], new Blob(["one two threE"])).find()).toBeNull();
});

test("forgetting an upload leaves one that another tab has begun in its place", async () => {
  const storage = new MemoryStorage();
  const own = new Remembered(storage, ["a"], FILE);
  await own.save(BEGUN);
  await new Remembered(storage, ["a"], FILE).save({ ...BEGUN, uploadId: "other" });
  own.forget(BEGUN);
  expect((await own.find())?.uploadId).toBe("other");
});

test("an upload that was over before it could be saved is not saved", async () => {
  const storage = new MemoryStorage();
  const own = new Remembered(storage, ["a"], FILE);
  const saving = own.save(BEGUN);
  own.forget(BEGUN);
  await saving;
  expect(storage.length).toBe(0);
});

test("after a week it is removed, and so is that of other files", async () => {
  const storage = new MemoryStorage();
  await new Remembered(storage, ["a"], FILE, () => 1).save(BEGUN);
  await new Remembered(storage, ["b"], FILE, () => WEEK_MS).save(BEGUN);
  storage.setItem("somebody else's", "1");
  expect(await new Remembered(storage, ["c"], FILE, () => WEEK_MS + 2).find()).toBeNull();
  expect(storage.length).toBe(2);
});

const NO_SAMPLE = '{"begun":{"uploadId":"u"},"sample":"","at":1}';

test.each(["", "null", "7", "{", '{"begun":{}}', NO_SAMPLE, NEVER_IDLE])(
  "what is no memory of ours is none: %s",
  async (text) => {
    const storage = new MemoryStorage();
    const own = new Remembered(storage, ["a"], FILE);
    await own.save(BEGUN);
    storage.setItem(storage.key(0) ?? "", text);
    expect(await own.find()).toBeNull();
  },
);

test("where a storage is full, or missing, the page itself remembers an upload", async () => {
  for (const storage of [new MemoryStorage(10), null]) {
    await new Remembered(storage, ["page only"], FILE).save(BEGUN);
    const again = new Remembered(storage, ["page only"], FILE);
    expect(await again.find()).toEqual(BEGUN);
    again.forget(BEGUN);
    expect(await again.find()).toBeNull();
  }
});
