"""Large files from the page to the bucket, over a line that is slow, breaks, or is not there."""

import hashlib
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from bucketscribe.records import State
from playwright.sync_api import BrowserContext, Page, Playwright, expect

from tests.browser.acting import MIB, PART_BYTES, choose, expect_state, id_of, row, visiting
from tests.browser.conftest import DESKTOP, Watch, chromium_options
from tests.browser.line import Line, Seen
from tests.browser.stack import Stack
from tests.integration.test_up import BUCKET, wait_until

ACCEPTED = (State.QUEUED, State.RUNNING, State.COMPLETED)
SENT_SECONDS = 60

Recording = Callable[[str, int], Path]


# What Golden Retriever writes down a moment after it has changed: in `metadata` what is known of each file,
# in `files` those that are small enough.
KEPT = """([id, name]) => new Promise((resolve, reject) => {
  const opening = indexedDB.open("uppy-blobs");
  opening.onerror = () => reject(opening.error);
  opening.onsuccess = () => {
    const reading = opening.result.transaction(["metadata", "files"]);
    const known = reading.objectStore("metadata").getAll();
    const files = reading.objectStore("files").getAll();
    reading.oncomplete = () => {
      opening.result.close();
      resolve([
        known.result.some(({ metadata }) => metadata.includes(id)),
        files.result.some(({ data }) => data.name === name),
      ]);
    };
  };
})"""


def key_of(stack: Stack, id: str) -> str:
    return str(stack.client.get(id).key)


def arrived_whole(stack: Stack, page: Page, file: Path) -> None:
    """The recording is accepted, and the bucket holds exactly the file; then the engine is spared."""
    expect_state(page, file.name, *ACCEPTED, seconds=SENT_SECONDS)
    id = id_of(page, file.name)
    stack.client.cancel(id)
    body = stack.s3.get_object(Bucket=BUCKET, Key=key_of(stack, id))["Body"]
    digest = hashlib.sha256()
    for block in body.iter_chunks(MIB):
        digest.update(block)
    with file.open("rb") as stream:
        assert digest.digest() == hashlib.file_digest(stream, "sha256").digest()


def finished(parts: list[Seen]) -> set[int]:
    """Numbers of the parts that the bucket has taken."""
    return {seen.part for seen in parts if seen.part is not None and seen.status == 200}


def upload_half(page: Page, line: Line, file: Path) -> None:
    """Upload until two parts are finished and others wait on the line: the middle, until it is released."""
    line.hold(after=2)
    choose(page, file)
    wait_until("two parts are finished", lambda: finished(line.parts()) == {1, 2}, 30)
    wait_until("others are on their way", lambda: len(line.parts()) > 2, 30)


def wait_until_kept(page: Page, file: Path, *, whole: bool) -> None:
    """The browser remembers the upload beyond this page, and the `whole` file, if that is asked for."""

    def kept() -> bool:
        known, there = page.evaluate(KEPT, [id_of(page, file.name), file.name])
        return bool(known and (there or not whole))

    wait_until("the upload is remembered", kept, 20)


def nothing_on_the_line(line: Line) -> None:
    wait_until("no part is on its way", lambda: all(seen.over for seen in line.parts()), 20)


def test_300_mb_go_over_a_slow_line_in_several_parts_at_once(
    clean: Stack, home: Page, recording: Recording, line: Line
) -> None:
    file = recording("board-meeting.wav", 300 * MIB)
    line.bytes_per_second = 40 * MIB
    choose(home, file)
    for told in (r"\d MB of 300 MB", r"\d %", r"\d MB/s", r"\d s left|few seconds left"):
        expect(row(home, file.name)).to_contain_text(re.compile(told))
    arrived_whole(clean, home, file)
    assert line.most_parts_in_flight > 1
    assert line.part_bytes() == file.stat().st_size


class TestResuming:
    def test_a_small_file_goes_on_by_itself_after_a_reload(
        self, clean: Stack, home: Page, recording: Recording, line: Line
    ) -> None:
        file = recording("remembered.wav", 48 * MIB)
        upload_half(home, line, file)
        wait_until_kept(home, file, whole=True)
        home.reload()
        line.release()
        arrived_whole(clean, home, file)
        assert len({seen.key for seen in line.parts()}) == 1, "it is the same upload"

    def test_a_reload_sends_no_finished_part_again(
        self, clean: Stack, home: Page, recording: Recording, line: Line
    ) -> None:
        file = recording("reloaded.wav", 96 * MIB + 4321)
        upload_half(home, line, file)
        wait_until_kept(home, file, whole=False)
        home.reload()
        line.release()
        nothing_on_the_line(line)
        before = line.parts()
        expect(row(home, file.name)).to_contain_text("Interrupted")
        with home.expect_file_chooser() as choosing:
            row(home, file.name).get_by_role("button", name=f"Choose file {file.name}").click()
        choosing.value.set_files(file)
        arrived_whole(clean, home, file)
        after = line.parts()[len(before) :]
        assert finished(before) & {seen.part for seen in after} == set()
        assert line.part_bytes() <= file.stat().st_size + line.most_parts_in_flight * PART_BYTES
        assert len({seen.key for seen in line.parts()}) == 1, "it is the same upload"

    def test_a_restarted_browser_goes_on_where_it_was(
        self,
        clean: Stack,
        playwright: Playwright,
        chromium: str,
        watch: Watch,
        recording: Recording,
        line: Line,
        tmp_path: Path,
    ) -> None:
        file = recording("restarted.wav", 96 * MIB + 99)

        def opened() -> BrowserContext:
            context = playwright.chromium.launch_persistent_context(
                tmp_path / "profile",
                base_url=clean.url,
                viewport=DESKTOP,  # type: ignore[arg-type]
                **chromium_options(chromium),  # type: ignore[arg-type]
            )
            return watch.over(context)

        with opened() as context:
            page = context.pages[0]
            page.goto("/")
            upload_half(page, line, file)
        line.release()
        nothing_on_the_line(line)
        before = line.parts()
        with opened() as context:
            page = context.pages[0]
            page.goto("/")
            choose(page, file)
            arrived_whole(clean, page, file)
        assert finished(before) & {seen.part for seen in line.parts()[len(before) :]} == set()
        assert len({seen.key for seen in line.parts()}) == 1

    def test_the_api_may_be_killed_in_the_middle(
        self, clean: Stack, home: Page, recording: Recording, line: Line, watch: Watch
    ) -> None:
        watch.expect("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "ERR_INCOMPLETE")
        file = recording("api-killed.wav", 96 * MIB)
        upload_half(home, line, file)
        clean.up.kill("api")
        line.release()
        arrived_whole(clean, home, file)
        assert line.part_bytes() == file.stat().st_size

    def test_a_line_that_breaks_costs_what_was_on_it(
        self, clean: Stack, home: Page, recording: Recording, line: Line, watch: Watch
    ) -> None:
        watch.expect("ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_CLOSED")
        file = recording("cut.wav", 96 * MIB)
        upload_half(home, line, file)
        line.cut()
        line.release()
        arrived_whole(clean, home, file)
        assert line.part_bytes() <= file.stat().st_size + line.most_parts_in_flight * PART_BYTES


def test_urls_that_expired_on_the_way_are_signed_again(
    clean: Stack, page: Page, recording: Recording, line: Line, watch: Watch
) -> None:
    watch.expect("403")
    file = recording("expired.wav", 40 * MIB)
    with visiting(page, clean, url_expires_seconds="2"):
        line.hold()
        choose(page, file)
        wait_until("parts wait on the line", lambda: line.parts(), 15)
        end = latest_expiry(line.parts())
        wait_until("their URLs have expired", lambda: datetime.now(end.tzinfo) > end, 15)
        line.release()
        arrived_whole(clean, page, file)
    assert 403 in {seen.status for seen in line.parts()}, "no URL had expired: nothing was tested"


def latest_expiry(parts: list[Seen]) -> datetime:
    """When the last of these presigned URLs ends, and a second more."""
    ends = []
    for seen in parts:
        query = parse_qs(urlsplit(seen.path).query)
        signed = datetime.strptime(query["X-Amz-Date"][0] + "+0000", "%Y%m%dT%H%M%SZ%z")
        ends.append(signed + timedelta(seconds=int(query["X-Amz-Expires"][0]) + 1))
    return max(ends)


class TestStopping:
    def test_a_canceled_upload_leaves_nothing_in_the_bucket(
        self, clean: Stack, home: Page, recording: Recording, line: Line
    ) -> None:
        file = recording("not-wanted.wav", 300 * MIB)
        upload_half(home, line, file)
        id = id_of(home, file.name)
        assert clean.open_uploads() != []
        row(home, file.name).get_by_role("button", name=f"Cancel {file.name}").click()
        expect_state(home, file.name, State.CANCELED)
        wait_until("no upload is open", lambda: clean.open_uploads() == [], 10)
        left = [key for key in clean.objects() if id in key]
        assert [key for key in left if not key.startswith("records/")] == []
        line.release()
        nothing_on_the_line(line)
        assert line.part_bytes() < file.stat().st_size, "it was canceled in the middle"

    def test_a_paused_upload_sends_nothing_until_it_is_resumed(
        self, clean: Stack, home: Page, recording: Recording, line: Line
    ) -> None:
        file = recording("paused.wav", 160 * MIB)
        upload_half(home, line, file)
        row(home, file.name).get_by_role("button", name=f"Pause {file.name}").click()
        expect(row(home, file.name)).to_contain_text("Paused")
        line.release()  # what was nearly there may arrive
        nothing_on_the_line(line)
        before = line.parts()
        assert line.part_bytes() < file.stat().st_size
        row(home, file.name).get_by_role("button", name=f"Resume {file.name}").click()
        arrived_whole(clean, home, file)
        assert finished(before) & {seen.part for seen in line.parts()[len(before) :]} == set()

    def test_an_upload_waits_while_the_browser_is_offline(
        self, clean: Stack, home: Page, recording: Recording, line: Line, watch: Watch
    ) -> None:
        watch.expect("ERR_INTERNET_DISCONNECTED", "ERR_NETWORK_CHANGED", "ERR_CONNECTION_RESET")
        file = recording("offline.wav", 160 * MIB)
        upload_half(home, line, file)
        home.context.set_offline(True)
        expect(row(home, file.name)).to_contain_text("Waiting for the network")
        home.context.set_offline(False)
        line.release()
        arrived_whole(clean, home, file)


def test_files_at_the_edge_of_a_part_arrive_whole(clean: Stack, home: Page, recording: Recording) -> None:
    sizes = (44 + 1, PART_BYTES, PART_BYTES + 1)
    files = [recording(f"edge-{size}.wav", size) for size in sizes]
    choose(home, *files)
    for file, size in zip(files, sizes, strict=True):
        expect_state(home, file.name, *ACCEPTED, State.FAILED, seconds=SENT_SECONDS)
        key = key_of(clean, id_of(home, file.name))
        assert clean.s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"] == size
