import { expect, test } from "vitest";
import { partSizeOf, Plan } from "../src/plan.ts";

const MIB = 1024 ** 2;
const GIB = 1024 ** 3;

test.each([1, 5 * MIB, 5 * MIB + 1, 47 * MIB, 100 * MIB, 300 * MIB, 5 * GIB, 500 * GIB])(
  "%d bytes are cut into what S3 takes, without gaps",
  (size) => {
    const plan = new Plan(size, partSizeOf(size));
    expect(plan.count).toBeLessThanOrEqual(10_000);
    expect(plan.partSize).toBeGreaterThanOrEqual(5 * MIB);
    const lengths = Array.from({ length: plan.count }, (_, place) => plan.length(place + 1));
    expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(size);
    expect(lengths.slice(0, -1).every((length) => length === plan.partSize)).toBe(true);
    expect(plan.start(plan.count) + plan.length(plan.count)).toBe(size);
  },
);

test.each([100 * MIB, 300 * MIB, 5 * GIB])("%d bytes keep six connections busy to the end", (size) => {
  const plan = new Plan(size, partSizeOf(size));
  expect(plan.count % 6).toBe(0);
  expect(plan.length(plan.count)).toBeGreaterThan(plan.partSize * 0.99);
});

test("parts are about 8 MiB where S3 allows it", () => {
  expect(partSizeOf(100 * MIB) / MIB).toBeCloseTo(8.33, 2);
  expect(partSizeOf(5 * GIB) / MIB).toBeCloseTo(7.97, 1);
});
