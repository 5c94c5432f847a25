// The first screen: adding recordings, and the list of what became of them. Made once for who is signed in,
// and kept while other screens are shown, for uploads go on.

import type { Choices } from "./api.ts";
import { connection } from "./connection.ts";
import { element } from "./element.ts";
import { bytes } from "./format.ts";
import { followList } from "./list/feed.ts";
import { List } from "./list/list.ts";
import { percentOf } from "./list/status.ts";
import { navigate } from "./navigation.ts";
import { notice } from "./notice.ts";
import { dropAnywhere } from "./upload/drop.ts";
import { optionsForm } from "./upload/options.ts";
import { refusals } from "./upload/refusals.ts";
import { Uploads, type Upload } from "./upload/uploads.ts";
import { KEPT_BYTES, pageUppy, remember, showDashboard } from "./upload/uppy.ts";

export interface Home {
  element: HTMLElement;
  uploads: Uploads;
  list: List;
  /** Follow the list anew, after a session that had ended. */
  follow(): void;
  stopFollowing(): void;
  /** What the document is called while this screen is shown. */
  title(): string;
}

/** Shows what the scopes of who is signed in allow; `owner` is theirs. */
export function home(owner: string, scopes: string[], choices: Choices, titleChanged: () => void): Home {
  const may = (scope: "upload" | "read" | "write"): boolean => scopes.includes(scope);
  const refused = refusals();
  const options = optionsForm(choices);
  const uppy = pageUppy({ owner, choices, options: options.current, refused: refused.show });
  const uploads = new Uploads(uppy, () => {
    list.uploadsChanged();
    titleChanged();
  });
  const list = new List(uploads, may("write"));
  const area = element("section", { class: "add", "aria-label": "Upload recordings" });
  area.hidden = !may("upload");
  const root = element("div", { class: "home" }, area, list.element);
  let following = new AbortController();
  let remembered = false;

  showDashboard(uppy, area, bytes(choices.maxUploadBytes));
  area.append(options.form, refused.area);
  uppy.on("files-added", (files) => {
    if (files.length > 0) refused.added();
  });
  // Uppy's own words for refusals and failures are not shown: rows and refusals have better ones.
  uppy.on("info-visible", () => {
    const last = uppy.getState().info?.at(-1);
    if (last?.type === "warning") notice(last.message);
  });
  dropAnywhere((files) => {
    if (!may("upload")) return notice("This key does not allow uploads. Sign in with one that does.");
    uploads.add(files, "drop");
    // What became of them, and what was refused, is told on this screen.
    if (!root.isConnected) navigate("/");
  });
  void remember(uppy).then((yes) => (remembered = yes));
  addEventListener("beforeunload", (event) => {
    if (uploads.list().some(wouldStop)) event.preventDefault();
  });

  /** Small files go on by themselves when the page is opened again; others would have to be chosen anew. */
  function wouldStop({ phase, size }: Upload): boolean {
    return (phase === "sending" || phase === "queued") && (!remembered || size > KEPT_BYTES);
  }

  return {
    element: root,
    uploads,
    list,
    follow() {
      following = new AbortController();
      // Who may only upload has the uploads of this page.
      if (!may("read")) return list.begins({ transcriptions: [], cursor: null });
      followList(
        {
          begins: (page) => list.begins(page),
          changed: (transcription) => list.changed(transcription),
          deleted: (id) => list.deleted(id),
          connected: connection,
        },
        following.signal,
      );
    },
    stopFollowing: () => following.abort(),
    title() {
      const under = uploads.list().filter(({ phase }) => phase === "sending" || phase === "queued");
      return under.length > 0 ? `${percentOf(under)} % · Bucketscribe` : "Bucketscribe";
    },
  };
}
