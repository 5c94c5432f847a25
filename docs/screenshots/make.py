"""Makes the pictures in this folder: `make screenshots`, or `python -m docs.screenshots.make`.

Everything is served by the real servers. The recording by John F. Kennedy is transcribed while the pictures
are made, and one upload is under way on a slow line. The other transcriptions are seeded, by
tests/browser/seeds.py: their texts stand in `talks.py`, nobody said them, and their recordings are silent.
Their waveforms are drawn from where the words are.

Pictures are WebP, encoded by the browser itself.
"""

import base64
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

import httpx2
from bucketscribe.client import Client
from bucketscribe.records import Failure, Progress, Warning
from playwright.sync_api import Browser, Page, expect, sync_playwright

from docs.screenshots.talks import INTERVIEW, LECTURE, MEETING, SPEAKERS
from tests.browser.acting import JFK, MIB, choose, row
from tests.browser.conftest import DESKTOP, PHONE, chromium_options, find_chromium
from tests.browser.line import drawn
from tests.browser.seeds import Garden, spoken
from tests.browser.stack import Stack
from tests.integration.test_up import Up, free_port
from tests.media.odd import silent_recording

HERE = Path(__file__).parent
QUALITY = 0.85
MOST_BYTES = 250_000
WAIT_MS = 90_000

AS_WEBP = """async ([png, quality]) => {
  const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
  const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").drawImage(image, 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/webp", quality });
  let text = "";
  for (const byte of new Uint8Array(await blob.arrayBuffer())) text += String.fromCharCode(byte);
  return btoa(text);
}"""


@dataclass(frozen=True)
class View:
    """One picture: what is shown, and how."""

    name: str
    screen: Literal["list", "transcription"]
    scheme: Literal["light", "dark"]
    size: dict[str, int]


VIEWS = (
    View("list-light", "list", "light", DESKTOP),
    View("list-dark", "list", "dark", DESKTOP),
    View("list-phone", "list", "light", PHONE),
    View("transcription-light", "transcription", "light", DESKTOP),
    View("transcription-dark", "transcription", "dark", DESKTOP),
    View("transcription-phone", "transcription", "dark", PHONE),
)


def fill(stack: Stack) -> str:
    """Put transcriptions into the list; the id of the one that is shown."""
    garden = Garden(stack.s3)
    garden.completed(
        "Vorlesung 7 – Gezeiten.mp4",
        spoken(LECTURE),
        duration=5412,
        language="de",
        age=timedelta(days=12),
    )
    garden.failed(
        "voice memo 0312.m4a",
        Failure(code="no_speech", message="Nobody says anything in this recording."),
        age=timedelta(days=5),
    )
    garden.completed(
        "Interview with a lighthouse keeper.wav",
        spoken(INTERVIEW),
        duration=2710,
        age=timedelta(days=1, hours=3),
    )
    shown = garden.completed(
        "Harbour festival, third planning meeting.m4a",
        spoken(MEETING),
        age=timedelta(hours=2),
        warnings=(Warning(code="repetition", message="A phrase that was repeated at 0:41 was cut."),),
    )
    httpx2.patch(f"{stack.url}/transcriptions/{shown}", json={"speakers": SPEAKERS}).raise_for_status()
    garden.running(
        "Oral history, tape 4.flac",
        Progress(stage="transcribing", percent=64, seconds_left=140),
        duration=3605,
        size=412 * MIB,
    )
    stack.client.wait(stack.client.upload(JFK).id)
    return shown


@contextmanager
def opened(browser: Browser, stack: Stack, view: View) -> Iterator[Page]:
    """A tab of a profile of its own, as the view wants it."""
    with browser.new_context(
        base_url=stack.url,
        viewport=view.size,  # type: ignore[arg-type]
        color_scheme=view.scheme,
        reduced_motion="reduce",
        device_scale_factor=2 if view.size == PHONE else 1.5,
        is_mobile=view.size == PHONE,
        has_touch=view.size == PHONE,
        locale="en-GB",
    ) as context:
        yield context.new_page()


def show_list(stack: Stack, page: Page, upload: Path) -> None:
    """The list, with an upload under way on top."""
    page.goto("/")
    expect(row(page, JFK.name)).to_be_visible(timeout=WAIT_MS)
    stack.line.bytes_per_second = 12 * MIB
    choose(page, upload)
    under_way = re.compile(r"(2\d|[3-9]\d) %.*MB/s.*left")
    expect(row(page, upload.name)).to_contain_text(under_way, timeout=WAIT_MS)


def show_transcription(page: Page, id: str) -> None:
    """A transcription from its top, while something in the second paragraph is said."""
    page.goto(f"/t/{id}")
    expect(page.get_by_role("region", name="Transcript")).to_contain_text("harbour", timeout=WAIT_MS)
    play = page.get_by_role("slider", name="Position")
    expect(play).to_have_attribute("aria-valuemax", re.compile("^[1-9]"), timeout=WAIT_MS)
    for _ in range(2):
        play.press("ArrowRight")
    page.wait_for_function("() => CSS.highlights.get('playing')?.size > 0", timeout=WAIT_MS)
    play.evaluate("slider => slider.blur()")


def take(page: Page, view: View, encoder: Page) -> None:
    """The picture, as it is on the screen."""
    png = base64.b64encode(page.screenshot(animations="disabled")).decode()
    webp = base64.b64decode(encoder.evaluate(AS_WEBP, [png, QUALITY]))
    if len(webp) > MOST_BYTES:
        raise ValueError(f"{view.name} takes {len(webp)} bytes")
    (HERE / f"{view.name}.webp").write_bytes(webp)
    sys.stdout.write(f"{view.name}.webp: {len(webp) // 1024} KiB\n")


def main() -> None:
    """Start everything, make every picture, stop everything."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"

        def bucket_port() -> int:
            return int(json.loads((data / "ports.json").read_text())["s3"])

        with (
            drawn(bucket_port) as line,
            Up(data, free_port(), s3_public_endpoint=line.url) as up,
            Client(up.url) as client,
            sync_playwright() as playwright,
            playwright.chromium.launch(**chromium_options(find_chromium() or "chromium")) as browser,  # type: ignore[arg-type]
        ):
            stack = Stack(up.ready(), line, up.s3(), client)
            shown = fill(stack)
            upload = silent_recording(Path(folder) / "Ferry captains, round table.wav", 300 * MIB)
            encoder = browser.new_page()
            encoder.goto("about:blank")
            for view in VIEWS:
                line.start_over()
                with opened(browser, stack, view) as page:
                    if view.screen == "list":
                        show_list(stack, page, upload)
                    else:
                        show_transcription(page, shown)
                    take(page, view, encoder)
                    for transcription in client.list(state="uploading").transcriptions:
                        client.cancel(transcription.id)
                        client.delete(transcription.id)


if __name__ == "__main__":
    main()
