import { expect, test } from "vitest";
import { Signed } from "../src/signed.ts";
import type { SignedParts } from "../src/wire.ts";

const EXPIRES = 3600;

/** A signer that notes what it was asked, at a time that is set. */
class Signer {
  now = 0;
  asked: number[][] = [];
  errors: unknown[] = [];
  fails = false;
  readonly signed = new Signed(
    (numbers) => this.#sign(numbers),
    null,
    (error) => this.errors.push(error),
    () => this.now,
  );

  /** Say what comes next, and wait for the answer, if something was asked. */
  async ahead(first: number, last: number): Promise<void> {
    const numbers = Array.from({ length: last - first + 1 }, (_, place) => first + place);
    this.signed.ahead(numbers.slice(0, Signed.horizon));
    await new Promise((resolve) => setTimeout(resolve));
  }

  async #sign(numbers: readonly number[]): Promise<SignedParts> {
    this.asked.push([...numbers]);
    if (this.fails) throw new Error("no");
    const urls = numbers.map((number) => [number, `${number}@${this.now}`] as const);
    return { urls: new Map(urls), expires: EXPIRES };
  }
}

test("the first batch is small, the next comes before it is used up", async () => {
  const signer = new Signer();
  await signer.ahead(1, 640);
  expect(signer.asked[0]).toHaveLength(18);
  await signer.ahead(1, 640);
  expect(signer.asked[1]).toEqual(Array.from({ length: 100 }, (_, place) => 19 + place));
  await signer.ahead(90, 640);
  expect(signer.asked).toHaveLength(2);
  await signer.ahead(100, 640);
  expect(signer.asked[2]?.[0]).toBe(119);
  expect(signer.signed.get(118)).not.toBeNull();
});

test("URLs that came with the begin are used first, and none of them is asked for", async () => {
  const asked: (readonly number[])[] = [];
  const first = { urls: new Map([[1, "one"], [2, "two"]]), expires: EXPIRES };
  const sign = (numbers: readonly number[]): Promise<never> => {
    asked.push(numbers);
    return new Promise(() => undefined);
  };
  const signed = new Signed(sign, first, () => undefined);
  expect([signed.get(1), signed.get(2), signed.get(3)]).toEqual(["one", "two", null]);
  signed.ahead([1, 2]);
  expect(asked).toEqual([]);
  signed.ahead([1, 2, 3]);
  expect(asked).toEqual([[3]]);
});

test("a file of few parts asks once", async () => {
  const signer = new Signer();
  for (let first = 1; first <= 12; first++) await signer.ahead(first, 12);
  expect(signer.asked).toEqual([[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]]);
});

test("one question is asked at a time", async () => {
  const signer = new Signer();
  const both = [signer.ahead(1, 640), signer.ahead(1, 640)];
  await Promise.all(both);
  expect(signer.asked).toHaveLength(1);
});

test("URLs are renewed before they expire, and not given when they have", async () => {
  const signer = new Signer();
  await signer.ahead(1, 6);
  expect(signer.signed.get(1)).toBe("1@0");
  signer.now = EXPIRES * 1000 * 0.8;
  expect(signer.signed.get(1)).toBe("1@0");
  await signer.ahead(1, 6);
  expect(signer.signed.get(1)).toBe(`1@${signer.now}`);
  signer.now = EXPIRES * 1000 * 3;
  expect(signer.signed.get(1)).toBeNull();
});

test("after a refusal all URLs as old are asked for again, and newer ones are kept", async () => {
  const signer = new Signer();
  await signer.ahead(1, 6);
  signer.signed.drop(2, "2@0");
  expect(signer.signed.get(2)).toBeNull();
  signer.now = 5;
  await signer.ahead(2, 6);
  expect(signer.asked[1]).toEqual([2, 3, 4, 5, 6]);
  signer.signed.drop(2, "2@0");
  expect(signer.signed.get(2)).toBe("2@5");
});

test("who waits for URLs hears that there are some, or why there are none", async () => {
  const signer = new Signer();
  await signer.ahead(1, 6);
  expect(signer.errors).toEqual([null]);
  signer.fails = true;
  signer.now = EXPIRES * 2000;
  await signer.ahead(1, 6);
  expect(signer.errors[1]).toEqual(new Error("no"));
});
