import AwsS3 from "@uppy/aws-s3";
import Uppy from "@uppy/core";
import GoldenRetriever from "@uppy/golden-retriever";
import { asked, expose, KNOWN_FIELDS, PART } from "../page.ts";

const { endpoint, multipart, limit, options, keep } = asked();

const uppy = new Uppy();
const sending = {
  endpoint,
  limit,
  getChunkSize: () => PART,
  allowedMetaFields: KNOWN_FIELDS,
  // In milliseconds. Those it has by itself are over before every machine has started an API anew.
  retryDelays: [0, 1000, 3000, 5000, 10_000, 20_000, 20_000],
};
// Its types let nobody leave undefined what may be absent.
if (multipart === undefined) uppy.use(AwsS3, sending);
else uppy.use(AwsS3, { ...sending, shouldUseMultipart: () => multipart });
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
