// The list on the screen: rows by key, in the order that `Rows` gives them, with older ones on demand.

import { Problem, request, type Transcription, type TranscriptionPage } from "../api.ts";
import { element } from "../element.ts";
import { announce, notice } from "../notice.ts";
import type { Uploads } from "../upload/uploads.ts";
import { actionsFor } from "./actions.ts";
import { Deletions } from "./deletions.ts";
import { rowView, type RowView } from "./row.ts";
import { idOf, Rows, type Row } from "./rows.ts";
import { summaryOf } from "./status.ts";

const PAGE = 50;
const CLOCK_MS = 60_000;
const SKELETONS = 3;

export class List {
  readonly element: HTMLElement;
  #rows = new Rows();
  #views = new Map<number, RowView>();
  #uploads: Uploads;
  #deletions = new Deletions(
    () => this.draw(),
    (id) => this.focus(id),
  );
  #known = false;
  #cursor: string | null = null;
  #olderShown = false;
  #actions;

  /** Where the focus goes when the last row has gone. */
  #title = element("h2", { id: "listing-title", tabIndex: -1 }, "Transcriptions");
  #items = element("ul", { class: "rows", "aria-label": "Transcriptions" });
  #empty = element(
    "div",
    { class: "empty" },
    element("p", { class: "empty-title" }, "No transcriptions yet"),
    element("p", {}, "Add a recording above. Its transcript will be here, and stays until you delete it."),
  );
  #summary = element("p", { class: "summary" });
  #pauseAll = element(
    "button",
    { type: "button", class: "button button-quiet row-button", onclick: () => this.#toggleAll() },
    "Pause all",
  );
  #older = element(
    "button",
    { type: "button", class: "button button-quiet older", onclick: () => void this.#showOlder() },
    "Show older",
  );

  /** Where nothing of the server's may be changed, only uploads of this page have actions. */
  constructor(uploads: Uploads, mayWrite: boolean) {
    this.#uploads = uploads;
    const actions = actionsFor(uploads, this.#deletions, (transcription) => this.changed(transcription));
    this.#actions = (row: Row) => (mayWrite || row.upload ? actions(row) : []);
    this.element = element(
      "section",
      { class: "listing", "aria-labelledby": "listing-title" },
      element(
        "div",
        { class: "listing-head" },
        this.#title,
        this.#summary,
        this.#pauseAll,
      ),
      this.#items,
      this.#empty,
      this.#older,
    );
    for (let n = 0; n < SKELETONS; n += 1) {
      this.#items.append(element("li", { class: "row skeleton", "aria-hidden": "true" }));
    }
    this.draw();
    setInterval(() => this.draw(), CLOCK_MS);
  }

  begins(page: TranscriptionPage): void {
    const before = new Map(this.#rows.rows.map((row) => [idOf(row), row.transcription?.state]));
    this.#rows.begin(page.transcriptions, page.cursor === null);
    // After a long absence there may be others between those listed and those that are there.
    if (!page.transcriptions.some(({ id }) => before.has(id))) this.#olderShown = false;
    if (!this.#olderShown || page.cursor === null) this.#cursor = page.cursor;
    if (this.#known) {
      for (const listed of page.transcriptions) this.#tell(listed, before.get(listed.id));
    }
    if (!this.#known) this.#items.replaceChildren();
    this.#known = true;
    this.draw();
  }

  changed(transcription: Transcription): void {
    const before = this.#rows.rows.find((row) => idOf(row) === transcription.id)?.transcription?.state;
    this.#rows.put(transcription);
    this.#tell(transcription, before);
    this.draw();
  }

  deleted(id: string): void {
    this.#deletions.gone(id);
    this.#rows.remove(id);
    this.draw();
  }

  uploadsChanged(): void {
    this.#rows.setUploads(this.#uploads.list());
    this.draw();
  }

  /** Give the keyboard to the row of a transcription; false if there is none. */
  focus(id: string): boolean {
    const link = this.#items.querySelector<HTMLElement>(`[data-id="${CSS.escape(id)}"] a`);
    link?.focus({ preventScroll: true });
    return link !== null;
  }

  draw(): void {
    this.#letGo();
    const rows = this.#rows.rows.filter((row) => {
      const id = idOf(row);
      return id === null || !this.#deletions.has(id);
    });
    const there = new Set(rows.map((row) => row.key));
    for (const [key, view] of this.#views) {
      if (there.has(key)) continue;
      this.#focusNeighbour(view.element);
      view.element.remove();
      this.#views.delete(key);
    }
    rows.forEach((row, index) => {
      let view = this.#views.get(row.key);
      if (!view) this.#views.set(row.key, (view = rowView(this.#actions)));
      view.update(row);
      const stands = this.#items.children[index];
      if (stands !== view.element) this.#items.insertBefore(view.element, stands ?? null);
    });
    this.#empty.hidden = !this.#known || rows.length > 0;
    this.#items.hidden = this.#known && rows.length === 0;
    this.#older.hidden = this.#cursor === null;
    const uploads = this.#uploads.list();
    const summary = summaryOf(uploads);
    this.#summary.textContent = summary ?? "";
    this.#pauseAll.hidden = summary === null;
    this.#pauseAll.textContent = uploads.some(({ phase }) => underWay(phase)) ? "Pause all" : "Resume all";
  }

  /** Uploads that the server is done with are rows of the server's alone. */
  #letGo(): void {
    for (const { upload, transcription } of this.#rows.rows) {
      if (!upload || !transcription) continue;
      const { state } = transcription;
      if (state === "uploading" || state === "completing") continue;
      const over = upload.phase === "sent" || upload.phase === "failed";
      // One that is still being sent will hear for itself that it has been accepted.
      if (over || state === "canceled" || state === "expired") this.#uploads.forget(upload.file);
    }
  }

  #focusNeighbour(item: HTMLElement): void {
    if (!item.contains(document.activeElement)) return;
    const neighbour = item.nextElementSibling ?? item.previousElementSibling;
    const name = neighbour?.querySelector<HTMLElement>(".row-name") ?? this.#title;
    name.focus({ preventScroll: true });
  }

  #tell({ id, name, state }: Transcription, before: string | undefined): void {
    if (before === state || before === undefined || this.#deletions.has(id)) return;
    if (state === "completed") announce(`${name}: the transcript is ready.`);
    if (state === "failed") announce(`${name}: failed.`);
  }

  #toggleAll(): void {
    const uploads = this.#uploads.list();
    const running = uploads.filter(({ phase }) => underWay(phase));
    if (running.length > 0) for (const { file } of running) this.#uploads.pause(file);
    else for (const { file, phase } of uploads) if (phase === "paused") this.#uploads.resume(file);
  }

  async #showOlder(): Promise<void> {
    if (this.#cursor === null) return;
    this.#older.disabled = true;
    try {
      const path = `/transcriptions?limit=${PAGE}&cursor=${encodeURIComponent(this.#cursor)}`;
      const page = await request<TranscriptionPage>(path);
      const last = this.#items.lastElementChild;
      this.#olderShown = true;
      this.#cursor = page.cursor;
      for (const transcription of page.transcriptions) this.#rows.put(transcription);
      this.draw();
      last?.nextElementSibling?.querySelector<HTMLElement>(".row-name")?.focus({ preventScroll: true });
    } catch (error) {
      if (error instanceof Problem) notice(error.message);
      else throw error;
    } finally {
      this.#older.disabled = false;
    }
  }
}

function underWay(phase: string): boolean {
  return phase === "sending" || phase === "queued";
}
