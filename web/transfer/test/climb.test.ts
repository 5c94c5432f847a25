import { expect, test } from "vitest";
import { Climb } from "../src/climb.ts";

const MIB = 1024 ** 2;

/** Send over a line for some minutes; `rate` tells its bytes a second with so many parts at once. */
function climbed(rate: (limit: number) => number, climb = new Climb(), minutes = 20): Climb {
  let sent = 0;
  for (let now = 0; now < minutes * 60_000; now += 250) {
    climb.feed(now, sent, 0, 8 * MIB);
    sent += rate(climb.limit) / 4;
  }
  return climb;
}

test("a fast line has six parts at once from the first moment on", () => {
  const climb = new Climb();
  expect(climb.limit).toBe(6);
  expect(climbed(() => 25e6, climb).limit).toBe(6);
});

test("where six parts take long and two are as fast, two are sent", () => {
  expect(climbed(() => 125e3).limit).toBe(2);
});

test("where each connection is slow by itself, parts that take long do not make it fewer", () => {
  const limits = new Set<number>();
  climbed((limit) => {
    limits.add(limit);
    return limit * 88e3;
  });
  expect(Math.min(...limits)).toBe(5);
});

test("failures halve the number, and what the line gives brings it back", () => {
  const climb = new Climb();
  climb.feed(0, 0, 2, 8 * MIB);
  expect(climb.limit).toBe(3);
  climb.feed(250, 0, 2, 8 * MIB);
  expect(climb.limit).toBe(3);
  let sent = 0;
  for (let now = 500; now < 60_000; now += 250) {
    sent += (climb.limit * 2e6) / 4;
    climb.feed(now, sent, 2, 8 * MIB);
  }
  expect(climb.limit).toBe(6);
});

test("after failures a line that is full with three parts stays at three", () => {
  const climb = new Climb();
  let sent = 0;
  const limits: number[] = [];
  for (let now = 0; now < 60_000; now += 250) {
    climb.feed(now, (sent += 25e6 / 4), 1, 8 * MIB);
    limits.push(climb.limit);
  }
  expect(Math.max(...limits)).toBe(4);
  expect(limits.filter((limit) => limit === 3).length).toBeGreaterThan(limits.length / 2);
});

test("a step whose window was not full of sending is taken back", () => {
  const climb = new Climb();
  let sent = 0;
  let now = 0;
  for (; climb.limit === 6; now += 250) climb.feed(now, (sent += 125e3 / 4), 0, 8 * MIB);
  expect(climb.limit).toBe(5);
  climb.interrupt();
  expect(climb.limit).toBe(6);
});
