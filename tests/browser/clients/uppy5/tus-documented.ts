// When it is built, the code of docs/tus.md stands here: see vite.config.ts.
export {};
