/** A page with tus-js-client on it: options come by its address, the file by its field, commands by `window.tus`. */
import { Upload, type UploadOptions } from "tus-js-client";
import { carryOut, telling } from "./said.js";

declare global {
  interface Window {
    tus: (command: string) => void;
    said: [event: string, details: object][];
  }
}

const options = JSON.parse(new URLSearchParams(location.search).get("options") ?? "{}") as UploadOptions;
let upload: Upload | undefined;

window.said = [];
const tell = (event: string, details: object) => void window.said.push([event, details]);

document.querySelector("input")?.addEventListener("change", ({ target }) => {
  const [file] = (target as HTMLInputElement).files ?? [];
  if (file) upload = new Upload(file, { ...options, ...telling(tell, () => upload?.url ?? null) });
});
window.tus = (command) => void (upload && carryOut(upload, command, tell));
