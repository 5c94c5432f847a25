import { expect, test } from "vitest";
import { shape } from "./waveform.ts";

test("peaks of 8 and of 16 bits give the same shape", () => {
  const [high, low] = shape({ bits: 8, data: [-64, 32, -16, 64] });
  expect([...high]).toEqual([0.5, 1]);
  expect([...low]).toEqual([-1, -0.25]);
  expect(shape({ bits: 16, data: [-16384, 8192, -4096, 16384] })).toEqual([high, low]);
});

test("noise stays low", () => {
  const [high] = shape({ bits: 8, data: [-1, 1] });
  expect(high[0]).toBeLessThan(0.2);
});
