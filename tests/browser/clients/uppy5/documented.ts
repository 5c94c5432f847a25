// When it is built, the code of docs/uppy.md stands here: see vite.config.ts.
export {};
