// The upload on its own, without Uppy.

export { TransferError } from "./errors.ts";
export type { Progress, Upload, UploadOptions } from "./options.ts";
export { upload } from "./upload.ts";
export type { Uploaded } from "./wire.ts";
