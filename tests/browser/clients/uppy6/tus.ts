import Uppy from "@uppy/core";
import Tus from "@uppy/tus";
import { asked, expose } from "../page.ts";

const { endpoint, limit, options } = asked();

const uppy = new Uppy();
uppy.use(Tus, { endpoint, limit });
uppy.on("file-added", ({ id }) => uppy.setFileMeta(id, options));
expose(uppy, { core: Uppy.VERSION, tus: Tus.VERSION }, (data) => {
  uppy.addFile({ name: data.name, type: data.type, data });
});
