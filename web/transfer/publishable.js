// Makes dist/ the package that is published: in this workspace its sources are used as they are, but what
// others install is JavaScript with declarations. `npm run build`, then `npm publish ./dist`.

import { copyFileSync, readFileSync, writeFileSync } from "node:fs";

const { scripts: _ours, exports: entries, files: _sources, ...rest } = JSON.parse(readFileSync("package.json", "utf8"));

const built = Object.entries(entries).map(([entry, source]) => {
  const path = source.replace("./src/", "./").replace(/\.ts$/, "");
  return [entry, { types: `${path}.d.ts`, default: `${path}.js` }];
});

writeFileSync("dist/package.json", `${JSON.stringify({ ...rest, exports: Object.fromEntries(built) }, null, 2)}\n`);
copyFileSync("README.md", "dist/README.md");
copyFileSync("../../LICENSE", "dist/LICENSE");
