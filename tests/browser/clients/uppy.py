"""A web page of somebody else with an Uppy on it, as the tests hold it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Page

PART = 8 * 1024**2
"""Bytes in each part but the last: PART in page.ts."""

PART_SENT = "s3-multipart:part-uploaded"
"""Uppy's event of one part that the bucket holds."""

SUCCESS = "upload-success"
ERROR = "upload-error"

# Where Golden Retriever keeps what it knows of an upload: Uppy 5 in localStorage, Uppy 6 in IndexedDB.
REMEMBERED = """
async (key) => {
  if (localStorage.getItem("uppyState:uppy")?.includes(key)) return true;
  const opened = await new Promise((resolve, reject) => {
    const request = indexedDB.open("uppy-blobs");
    request.onsuccess = () => resolve(request.result);
    request.onerror = reject;
  });
  try {
    if (!opened.objectStoreNames.contains("metadata")) return false;
    return await new Promise((resolve, reject) => {
      const request = opened.transaction("metadata").objectStore("metadata").get("uppy");
      request.onsuccess = () => resolve(request.result?.metadata.includes(key) ?? false);
      request.onerror = reject;
    });
  } finally {
    opened.close();
  }
}
"""


@dataclass
class Uppy:
    """One tab with one Uppy, of version 5 or 6."""

    page: Page
    site: str
    major: int

    def open(
        self, endpoint: str, *, documented: bool = False, by_tus: bool = False, **params: object
    ) -> None:
        """Show the page, or the documentation's; see `asked` in page.ts for what ours can be told."""
        query = {"endpoint": endpoint} | {
            name.replace("_", "-"): str(value).lower() for name, value in params.items()
        }
        if by_tus:
            name = "tus-documented" if documented else "tus"
        else:
            name = "documented" if documented else "index"
        self.page.goto(f"{self.site}/uppy{self.major}/{name}.html?{urlencode(query)}")
        self.page.wait_for_function("() => window.uppy")

    def choose(self, file: Path) -> None:
        """As a user does, by the page's field."""
        self.page.get_by_label("Recordings").set_input_files(file)

    def do(self, script: str) -> Any:
        """Run a line of the page's own script; `uppy` is its Uppy."""
        return self.page.evaluate(f"() => {{ const uppy = window.uppy; {script} }}")

    def start(self) -> None:
        """Begin to upload, and do not wait for it."""
        self.do("void uppy.upload();")

    def send(self, file: Path) -> None:
        self.choose(file)
        self.start()

    def heard(self, event: str, times: int = 1) -> list[Any]:
        """What came with an event, waited for until it has come so often."""
        self.page.wait_for_function(
            "([event, times]) => window.heard[event].length >= times", arg=[event, times]
        )
        return list(self.page.evaluate("(event) => window.heard[event]", event))

    def key(self) -> str:
        """The object's key, as `upload-success` tells it."""
        (details,) = self.heard(SUCCESS)
        return str(details[1]["body"]["key"])

    def refusal(self) -> str:
        """The text that `upload-error` has for the user."""
        (details,) = self.heard(ERROR)
        return str(details[1]["message"])

    def refused_at_once(self) -> str:
        """Why Uppy itself did not take a file."""
        (details,) = self.heard("restriction-failed")
        return str(details[1]["message"])

    def remembers(self, key: str) -> None:
        """Wait until Golden Retriever could go on with an upload after a reload."""
        self.page.wait_for_function(REMEMBERED, arg=key)


def id_of(key: str) -> str:
    """The transcription's id, which the key carries: `uploads/{owner}/{id}/{name}`."""
    return key.split("/")[2]
