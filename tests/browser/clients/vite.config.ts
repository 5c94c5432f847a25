import { readFileSync } from "node:fs";
import { join } from "node:path";

const HERE = import.meta.dirname;

/** Puts the code of docs/uppy.md, word for word, into `uppy5/documented.ts` and `uppy6/documented.ts`. */
const documented = {
  name: "documented",
  load(id: string) {
    if (!id.endsWith("/documented.ts")) return null;
    const text = readFileSync(join(HERE, "../../../docs/uppy.md"), "utf8");
    const blocks = Array.from(text.matchAll(/^```ts\n(.*?)^```$/gms), ([, code]) => code);
    const [page, six, five, , asking] = blocks;
    return [
      'import { expose } from "../page.ts";',
      // The documentation has the address of `make up`.
      page?.replace('"http://127.0.0.1:8000"', 'new URLSearchParams(location.search).get("endpoint")'),
      id.includes("uppy6") ? six : five,
      asking,
      "expose(uppy, { core: Uppy.VERSION, awsS3: AwsS3.VERSION }, (data) => {",
      "  uppy.addFile({ name: data.name, type: data.type, data });",
      "});",
    ].join("\n");
  },
};

const PAGES = ["uppy5", "uppy6"].flatMap((folder) => [`${folder}/index.html`, `${folder}/documented.html`]);

export default {
  root: HERE,
  plugins: [documented],
  build: {
    target: "es2023",
    minify: false,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: PAGES },
  },
};
