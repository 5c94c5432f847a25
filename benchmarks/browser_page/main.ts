import { Transfer } from "@bucketscribe/transfer";
import Uppy from "@uppy/core";
import { asked, expose } from "../../tests/browser/clients/page.ts";

const { endpoint } = await asked();

const uppy = new Uppy();
uppy.use(Transfer, { endpoint });
expose(uppy, { core: Uppy.VERSION, awsS3: "" }, (data) => {
  uppy.addFile({ name: data.name, type: data.type, data });
});
