// @ts-check
/**
 * tus-js-client in Node: one upload, as its argument asks. Commands come in by lines, what it says goes out by lines.
 */
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { PassThrough } from "node:stream";
import { FileUrlStorage, Upload } from "tus-js-client";
import { carryOut, telling } from "./said.js";

const { file, storage, piped, options } = JSON.parse(process.argv[2] ?? "");

/** @type {import("./said.js").Tell} */
const tell = (event, details) => process.stdout.write(`${JSON.stringify([event, details])}\n`);

// Through a pipe, nobody knows the length before its end.
const source = piped ? createReadStream(file).pipe(new PassThrough()) : createReadStream(file);
const upload = new Upload(/** @type {any} */ (source), {
  ...options,
  ...(storage ? { urlStorage: new FileUrlStorage(storage) } : {}),
  ...telling(tell, () => upload.url),
});
for await (const command of createInterface(process.stdin)) await carryOut(upload, command, tell);
