import Uppy, { type Meta } from "@uppy/core";
import { beforeEach, expect, test, vi } from "vitest";
import { Transfer } from "../src/plugin.ts";
import type { Uploaded } from "../src/wire.ts";

const SILENT = { debug: () => undefined, warn: () => undefined, error: () => undefined };
let begins: string[] = [];

beforeEach(() => {
  begins = [];
  // A server that has not answered yet.
  vi.stubGlobal("fetch", (_: string, { body }: { body: string }) => {
    begins.push((JSON.parse(body) as { filename: string }).filename);
    return new Promise(() => undefined);
  });
  vi.stubGlobal("navigator", { onLine: true });
  vi.stubGlobal("addEventListener", () => undefined);
  vi.stubGlobal("removeEventListener", () => undefined);
  return () => vi.unstubAllGlobals();
});

function begun(metadata = (): Record<string, string> => ({})): { uppy: Uppy<Meta, Uploaded>; id: string } {
  const uppy = new Uppy<Meta, Uploaded>({ logger: SILENT });
  uppy.use(Transfer<Meta, Uploaded>, { endpoint: "", storage: null, metadata });
  const id = uppy.addFile({ name: "a.wav", type: "audio/wav", data: new Blob(["a"]) });
  void uppy.upload();
  return { uppy, id };
}

test("a file that is tried again while it is being sent is not sent twice", async () => {
  const { uppy, id } = begun();
  await vi.waitFor(() => expect(begins).toEqual(["a.wav"]));
  void uppy.retryUpload(id);
  uppy.pauseResume(id);
  void uppy.retryUpload(id);
  const other = uppy.addFile({ name: "b.wav", type: "audio/wav", data: new Blob(["b"]) });
  void uppy.retryUpload(other);
  // Had the first been begun again, that would have come before.
  await vi.waitFor(() => expect(begins).toContain("b.wav"));
  expect(begins).toEqual(["a.wav", "b.wav"]);
  uppy.cancelAll();
});

test("a mistake in what is told of a file is that file's failure", async () => {
  const metadata = (): never => {
    throw new RangeError("no language");
  };
  const { uppy, id } = begun(metadata);
  await vi.waitFor(() => expect(uppy.getFile(id).error).toBe("no language"));
});
