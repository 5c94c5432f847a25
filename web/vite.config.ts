import { defineConfig } from "vite";

const api = process.env["BUCKETSCRIBE_API"] ?? "http://127.0.0.1:8000";

// The API serves the page at its root; `make page` builds it into the Python package.
export default defineConfig({
  root: import.meta.dirname,
  // Stands in the built page for a nonce that the API makes for each answer.
  html: { cspNonce: "__NONCE__" },
  build: {
    outDir: "../functions/bucketscribe/page",
    emptyOutDir: true,
    target: "es2023",
    // Inlined files would be data: URLs, which the page's policy has no need to allow.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // What is bundled asks for its licence to be handed on with it.
    license: { fileName: "licenses.txt" },
  },
  // `npx vite` serves the sources on their own, with the API of a running `make up` behind them.
  server: {
    proxy: Object.fromEntries(
      ["/transcriptions", "/s3", "/session", "/options", "/upload-tokens", "/health"].map((path) => [path, api]),
    ),
  },
});
