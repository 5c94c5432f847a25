"""How fast a large file gets from a browser into the bucket: our transfer, Uppy's 6 and 5, and one curl PUT.

    sudo .venv/bin/python -m benchmarks.browser_upload [--line NAME]... [--rounds N] [--mib N] [--json FILE]

Chromium and curl are at one end of a line (benchmarks/line), SeaweedFS and the API at the other. All four
take turns, each upload in a browser context of its own, so that it begins with no connection. A browser's
upload is timed from `uppy.upload()` to `upload-success`, when the API has answered `complete`; the floor is
one `curl -T` to a presigned URL. After each the object is looked up in the bucket, and removed.

Every page gets the same endpoint, on another origin, and the same file from the same field. Uppy's parts
are of 8 MiB, ours of what it chooses. Needs root, Chromium, and what `make test-browser` installs. Exits
with 1 where ours takes longer than its goal.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import Browser, sync_playwright

from benchmarks import line as lines
from benchmarks.line import KINDS, Line
from benchmarks.line.far_end import FarEnd, far_end
from benchmarks.upload import MIB, WAV_HEAD
from tests.servers import running

ROOT = Path(__file__).parents[1]
CLIENTS = ROOT / "tests/browser/clients"
OURS = Path(__file__).with_name("browser_page")
VITE = ROOT / "web/node_modules/vite/bin/vite.js"
GOAL = 1.1
FLOOR = "curl"
PATIENCE_SECONDS = 600
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

UPLOAD = """
() => new Promise((resolve, reject) => {
  const uppy = window.uppy;
  const begun = performance.now();
  uppy.once("upload-success", (_, { body }) => resolve([performance.now() - begun, body.key]));
  uppy.once("upload-error", (_, error) => reject(error));
  void uppy.upload();
})
"""

PAGES: Mapping[str, str] = {
    "bucketscribe": "ours/index.html",
    "uppy 6": "clients/uppy6/index.html",
    "uppy 5": "clients/uppy5/index.html",
}


class CannotMeasure(Exception):
    """Something is missing here; the text says what."""


def by_curl(line: Line, far: FarEnd, file: Path) -> tuple[float, str]:
    """The floor: seconds of one PUT, connection included, and the object's key."""
    key = f"floor/{file.name}"
    # Without `Expect`, which would cost it a round trip.
    curl = f"curl -sS --fail --noproxy * -H Expect: -o {os.devnull} -w %{{time_total}}".split()
    put = line.near(*curl, "-T", str(file), far.presigned(key))
    done = subprocess.run(put, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout), key


def by_browser(name: str, browser: Browser, far: FarEnd, file: Path) -> tuple[float, str]:
    """Seconds of one upload in a browser that has no connection yet but to the page, and the object's key."""
    context = browser.new_context()
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        page.goto(f"{far.site}/{PAGES[name]}?{urlencode({'endpoint': far.endpoint, 'multipart': 'true'})}")
        page.wait_for_function("() => window.uppy")
        page.get_by_label("Recordings").set_input_files(file)
        milliseconds, key = page.evaluate(UPLOAD)
    finally:
        context.close()
    return milliseconds / 1000, key


def measure(line: Line, far: FarEnd, browser: Browser, file: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of every upload over one line, by client. The first round only warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in (FLOOR, *PAGES)}
    for turn in range(rounds + 1):
        for name in seconds:
            before = line.counts()["to_far"]
            if name == FLOOR:
                spent, key = by_curl(line, far, file)
            else:
                spent, key = by_browser(name, browser, far, file)
            after = line.counts()["to_far"]
            (entry,) = far.bucket.listing(key)
            assert entry.size == file.stat().st_size, f"{name}: {entry.size} bytes are in the bucket"
            far.bucket.delete(key)
            passed, dropped, lost = (after[field] - before[field] for field in ("packets", "dropped", "lost"))
            print(
                f"  {name:13} {spent:6.2f} s   {passed:6} packets, {dropped:5} dropped by the queue, "
                f"{lost:5} lost{'' if turn else '   (to warm up)'}",
                flush=True,
            )
            if turn:
                seconds[name].append(spent)
    return seconds


@contextmanager
def browser_at(line: Line, folder: Path) -> Iterator[Browser]:
    """Chromium at the near end."""
    chromium = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if chromium is None:
        raise CannotMeasure("There is no Chromium: on Debian, apt install chromium")
    wrapper = folder / "chromium"
    wrapper.write_text(f'#!/bin/sh\nexec {" ".join(line.near(chromium))} "$@"\n')
    wrapper.chmod(0o700)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=wrapper, args=["--no-sandbox", "--no-proxy-server"], headless=True
        )
        try:
            yield browser
        finally:
            browser.close()


def build(folder: Path) -> None:
    """All pages, below one folder."""
    node = shutil.which("node")
    if node is None or not VITE.is_file() or not (CLIENTS / "node_modules").is_dir():
        raise CannotMeasure("The clients are not installed: `make test-browser` does it, and runs them.")
    for source, name in ((OURS, "ours"), (CLIENTS, "clients")):
        options = ["--base", "./", "--logLevel", "warn", "--emptyOutDir", "--outDir", str(folder / name)]
        subprocess.run([node, str(VITE), "build", *options], cwd=source, check=True)


def write_recording(file: Path, mib: int) -> None:
    """A WAV's head, and bytes that nothing on the way can make smaller."""
    with file.open("wb") as writing:
        writing.write(WAV_HEAD + os.urandom(MIB - len(WAV_HEAD)))
        for _ in range(mib - 1):
            writing.write(os.urandom(MIB))


def show(name: str, seconds: Mapping[str, list[float]], mib: int) -> bool:
    """The table of one line; returns whether ours reaches its goal."""
    floor = statistics.median(seconds[FLOOR])
    print(f"\n{name}: median seconds, least and most of {len(seconds[FLOOR])}, Mbit/s, times the floor")
    for client, spent in seconds.items():
        middle = statistics.median(spent)
        rate = mib * MIB * 8 / middle / 1e6
        ratio = f"{middle / floor:5.2f} x" + (f"   goal {GOAL} x" if client == "bucketscribe" else "")
        print(f"  {client:13} {middle:6.2f}   {min(spent):6.2f} {max(spent):6.2f}   {rate:5.0f}   {ratio}")
    print(flush=True)
    return statistics.median(seconds["bucketscribe"]) <= GOAL * floor


def main() -> int:
    """Measure every line asked for; 1 where ours is slower than its goal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--line", action="append", choices=KINDS, help="all of them unless given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=100)
    parser.add_argument("--json", type=Path, help="where to write every single figure")
    given = parser.parse_args()
    told: dict[str, Any] = {"kernel": platform.release(), "processors": os.cpu_count(), "mib": given.mib}
    good = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "recording.wav"
        write_recording(file, given.mib)
        build(folder / "pages")
        program = lines.compiled(folder)
        lines.move_to_the_far_end()
        told |= {"tcp": lines.tcp_settings(), "lines": {}}
        print(" · ".join(f"{key} {value}" for key, value in told["tcp"].items()), flush=True)
        with running(folder / "data") as servers, far_end(servers, folder / "pages") as far:
            for kind in given.line or KINDS:
                load = os.getloadavg()[0]
                print(f"{kind}: begun at a load of {load:.1f} on {os.cpu_count()} processors", flush=True)
                with lines.drawn(program, KINDS[kind]) as line, browser_at(line, folder) as browser:
                    told["browser"] = browser.version
                    seconds = measure(line, far, browser, file, given.rounds)
                    told["lines"][kind] = {"seconds": seconds, "packets": line.counts(), "load": load}
                good &= show(kind, seconds, given.mib)
    if given.json:
        given.json.write_text(json.dumps(told, indent=2))
    return 0 if good else 1


if __name__ == "__main__":
    # As Ctrl-C does: what was started ends with us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main())
    except (CannotMeasure, lines.NoLine) as reason:
        sys.exit(str(reason))
