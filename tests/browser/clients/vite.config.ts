import { readFileSync } from "node:fs";
import { join } from "node:path";

const HERE = import.meta.dirname;

/** The blocks of TypeScript in a page of docs/, which have the address of `make up`. */
function blocks(page: string): string[] {
  const text = readFileSync(join(HERE, "../../../docs", page), "utf8");
  return Array.from(text.matchAll(/^```ts\n(.*?)^```$/gms), ([, code]) =>
    (code ?? "").replace('"http://127.0.0.1:8000"', 'new URLSearchParams(location.search).get("endpoint")'),
  );
}

const BY_PARTS = { plugin: "AwsS3", version: "awsS3" };
const BY_TUS = { plugin: "Tus", version: "tus" };

/** Gives the Uppy of a page to the tests. */
function exposed({ plugin, version }: typeof BY_PARTS): string[] {
  return [
    'import { expose } from "../page.ts";',
    `expose(uppy, { core: Uppy.VERSION, ${version}: ${plugin}.VERSION }, (data) => {`,
    "  uppy.addFile({ name: data.name, type: data.type, data });",
    "});",
  ];
}

/** Puts the code of docs/uppy.md and docs/tus.md, word for word, into the modules that wait for it. */
const documented = {
  name: "documented",
  load(id: string) {
    const [folder, file] = id.split("/").slice(-2);
    if (file === "tus-documented.ts") {
      const [, uppy] = blocks("tus.md");
      return [uppy, ...exposed(BY_TUS)].join("\n");
    }
    if (file !== "documented.ts") return null;
    if (folder === "tus") {
      const [client] = blocks("tus.md");
      return [client, 'document.querySelector("input").onchange = ({ target }) => send(target.files[0]);'].join("\n");
    }
    const [page, six, five, , asking] = blocks("uppy.md");
    return [page, folder === "uppy6" ? six : five, asking, ...exposed(BY_PARTS)].join("\n");
  },
};

const UPPY = ["uppy5", "uppy6"].flatMap((folder) =>
  ["index", "documented", "tus", "tus-documented"].map((page) => `${folder}/${page}.html`),
);

export default {
  root: HERE,
  plugins: [documented],
  build: {
    target: "es2023",
    minify: false,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: ["tus/index.html", "tus/documented.html", ...UPPY] },
  },
};
