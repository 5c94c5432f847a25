// The upload, and the Uppy plugin that is made of it.

export * from "./core.ts";
export { Transfer, type TransferOptions } from "./plugin.ts";
