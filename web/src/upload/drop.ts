// Files may be dropped anywhere on the page: next to the drop area, the browser would leave the page for
// them.

import { getDroppedFiles } from "@uppy/core/utils";

export function dropAnywhere(dropped: (files: File[]) => void): void {
  const root = document.documentElement;
  let leaving: ReturnType<typeof setTimeout> | undefined;

  addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    root.classList.add("dropping");
    // There is no event that says that a drag has left the window, in all browsers.
    clearTimeout(leaving);
    leaving = setTimeout(() => root.classList.remove("dropping"), 300);
  });
  addEventListener("drop", (event) => {
    root.classList.remove("dropping");
    // Uppy's drop area has taken its own.
    if (event.defaultPrevented || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    void getDroppedFiles(event.dataTransfer).then(dropped);
  });
}
