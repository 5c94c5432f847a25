import AwsS3 from "@uppy/aws-s3";
import Uppy from "@uppy/core";
import GoldenRetriever from "@uppy/golden-retriever";
import { asked, expose, KNOWN_FIELDS, PART } from "../page.ts";

const { endpoint, multipart, limit, options, keep } = asked();

const uppy = new Uppy();
uppy.use(AwsS3, {
  companionEndpoint: endpoint,
  limit,
  getChunkSize: () => PART,
  allowedMetaFields: KNOWN_FIELDS,
  ...(multipart === undefined ? {} : { shouldUseMultipart: multipart }),
});
if (keep > 0) {
  // The types do not name them.
  const indexedDB: object = { maxFileSize: keep, maxTotalSize: keep };
  uppy.use(GoldenRetriever, { indexedDB });
}
uppy.on("file-added", ({ id, size }) => {
  uppy.setFileMeta(id, { size: String(size), partSize: String(PART), ...options });
});
expose(uppy, { core: Uppy.VERSION, awsS3: AwsS3.VERSION }, (data) => {
  uppy.addFile({ name: data.name, type: data.type, data });
});
