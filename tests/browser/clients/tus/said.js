// @ts-check
/** What one upload of tus-js-client says, in JSON: the same in Node and on a page. */

/**
 * @typedef {(event: string, details: object) => void} Tell
 * @typedef {import("tus-js-client").DetailedError} DetailedError
 */

const TOLD = [
  "Location",
  "Upload-Offset",
  "Upload-Length",
  "Upload-Expires",
  "Tus-Resumable",
  "Bucketscribe-Transcription",
];

/**
 * Options that tell what happens.
 *
 * @param {Tell} tell
 * @param {() => string | null} url of the upload, once it has one
 * @returns {import("tus-js-client").UploadOptions}
 */
export function telling(tell, url) {
  return {
    onAfterResponse: (request, response) => {
      const headers = TOLD.map((name) => [name, response.getHeader(name) ?? null]);
      tell("answer", {
        method: request.getMethod(),
        url: request.getURL(),
        status: response.getStatus(),
        headers: Object.fromEntries(headers),
      });
    },
    onUploadUrlAvailable: () => tell("url", { url: url() }),
    onProgress: (sent, total) => tell("progress", { sent, total }),
    onChunkComplete: (_, accepted) => tell("chunk", { accepted }),
    onSuccess: ({ lastResponse }) =>
      tell("success", { url: url(), transcription: lastResponse.getHeader("Bucketscribe-Transcription") }),
    onError: (error) => {
      const response = /** @type {DetailedError} */ (error).originalResponse;
      tell("error", { message: error.message, status: response?.getStatus(), body: response?.getBody() });
    },
  };
}

/**
 * Carry out what a test wants of an upload.
 *
 * @param {import("tus-js-client").Upload} upload
 * @param {string} command
 * @param {Tell} tell
 */
export async function carryOut(upload, command, tell) {
  if (command === "start") upload.start();
  else if (command === "resume") {
    // As the library's own documentation has it: the first that is known of this file.
    const [previous] = await upload.findPreviousUploads();
    tell("found", { previous });
    if (previous) upload.resumeFromPreviousUpload(previous);
    upload.start();
  } else {
    await upload.abort(command === "terminate");
    tell("aborted", {});
  }
}
