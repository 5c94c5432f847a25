import { join } from "node:path";

const modules = join(import.meta.dirname, "../../web/node_modules");

// A page with our transfer on it, as the pages of the clients it is compared with.
export default {
  root: import.meta.dirname,
  build: { target: "es2023", modulePreload: { polyfill: false } },
  resolve: {
    // Exact: what the transfer itself imports is found from where it is.
    alias: ["@bucketscribe/transfer", "@uppy/core"].map((name) => ({
      find: new RegExp(`^${name}$`),
      replacement: join(modules, name),
    })),
  },
};
