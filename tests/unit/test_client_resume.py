"""Uploads that go on where another one stopped, against the stand-ins; and the store they are found in."""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from bucketscribe.client import (
    BucketRefused,
    Client,
    ServerProblem,
    Unreachable,
    UploadFailed,
    UploadProgress,
    UploadStore,
)
from bucketscribe.client.recording import File
from bucketscribe.client.resume import Begun, key_of

from tests.unit.standins import (
    FAST,
    ID,
    PART,
    StandIns,
    cut_in_the_middle,
    document,
    no_such_upload,
    standing_in,
    write_recording,
)

LIST = "GET /s3/multipart/sealed%2Fid"
COMPLETE = "POST /s3/multipart/sealed%2Fid/complete"
BEGUN = Begun(id=ID, key="uploads/local/x/talk.wav", uploadId="sealed/id", partSize=PART)


@pytest.fixture
def standins() -> Iterator[StandIns]:
    with standing_in() as running:
        yield running


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "täl k.wav")


@pytest.fixture
def store(tmp_path: Path) -> UploadStore:
    return UploadStore(tmp_path / "state" / "uploads")


def saved(store: UploadStore) -> list[Path]:
    return sorted(store.folder.iterdir())


def interrupt(standins: StandIns, recording: Path, store: UploadStore) -> None:
    """An upload that gets as far as its fifth part."""
    standins.bucket.faults = {6: [cut_in_the_middle] * 5}
    with pytest.raises(Unreachable):
        standins.client.upload(recording, {"language": "en"}, resume=store)
    standins.bucket.faults.clear()
    standins.bucket.tries.clear()


def go_on(standins: StandIns, recording: Path, store: UploadStore) -> UploadProgress:
    """The same upload again; what was told last."""
    told: list[UploadProgress] = []
    assert standins.client.upload(recording, {"language": "en"}, told.append, resume=store).id == ID
    return told[-1]


# Going on


def test_an_interrupted_upload_is_kept_and_goes_on_with_what_is_missing(
    standins: StandIns, recording: Path, store: UploadStore
) -> None:
    interrupt(standins, recording, store)
    assert standins.api.aborted == 0
    del standins.bucket.parts[3]
    last = go_on(standins, recording, store)
    assert set(standins.bucket.tries) == {3, 6}
    assert standins.bucket.arrived() == recording.read_bytes()
    assert last.kept_seconds == standins.api.expires
    assert (last.sent, last.resumed) == (recording.stat().st_size, 4 * PART)
    assert (len(standins.api.begun), len(standins.api.completed)) == (1, 1)
    assert not saved(store)


def test_ctrl_c_keeps_an_upload_with_a_store(standins: StandIns, recording: Path, store: UploadStore) -> None:
    def interrupt(_progress: UploadProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        standins.client.upload(recording, on_progress=interrupt, resume=store)
    assert standins.api.aborted == 0
    assert len(saved(store)) == 1


def test_an_upload_is_saved_before_its_first_part_is_sent(
    standins: StandIns, recording: Path, store: UploadStore
) -> None:
    at_first_url: list[int] = []
    call = "GET /s3/multipart/sealed%2Fid/batch"

    def look(request: Any) -> None:
        at_first_url.append(len(saved(store)))
        del standins.api.routes[call]
        request.handle_any()

    standins.api.routes[call] = look
    standins.client.upload(recording, resume=store)
    assert at_first_url == [1]


@pytest.mark.parametrize(
    "wrong", [b"\xff" * PART, b"\x01" * (PART - 1)], ids=["other bytes", "another length"]
)
def test_a_part_that_is_not_the_files_is_sent_again(
    standins: StandIns, recording: Path, store: UploadStore, wrong: bytes
) -> None:
    interrupt(standins, recording, store)
    standins.bucket.hold(2, wrong)
    go_on(standins, recording, store)
    assert set(standins.bucket.tries) == {2, 6}
    assert standins.bucket.arrived() == recording.read_bytes()


@pytest.mark.parametrize("wrong", [b"too short", b"\xff" * PART], ids=["another length", "other bytes"])
def test_where_etags_are_no_md5s_only_a_part_we_have_sent_counts(
    standins: StandIns, recording: Path, store: UploadStore, wrong: bytes
) -> None:
    standins.bucket.salt = b"a key of the bucket's own"
    interrupt(standins, recording, store)
    standins.bucket.hold(2, wrong)
    go_on(standins, recording, store)
    assert set(standins.bucket.tries) == {2, 6}
    assert standins.bucket.arrived() == recording.read_bytes()


@pytest.mark.parametrize("state", ["completing", "queued", "running", "completed", "failed"])
def test_an_upload_that_was_accepted_is_not_sent_again(
    standins: StandIns, recording: Path, store: UploadStore, state: str
) -> None:
    interrupt(standins, recording, store)
    standins.api.routes[LIST] = lambda request: request.problem(404, "no_such_upload")
    standins.api.routes[f"GET /transcriptions/{ID}"] = lambda request: request.answer_json(
        200, document(state)
    )
    assert standins.client.upload(recording, {"language": "en"}, resume=store).state == state
    assert (len(standins.api.begun), standins.bucket.tries.total()) == (1, 0)
    assert not saved(store)


@pytest.mark.parametrize("state", ["expired", "canceled", None])
def test_an_upload_that_has_ended_is_begun_anew(
    standins: StandIns, recording: Path, store: UploadStore, state: str | None
) -> None:
    interrupt(standins, recording, store)
    standins.api.routes[LIST] = lambda request: request.problem(410, "upload_expired")
    shown = iter([(200, document(state)) if state else (404, {"code": "no_such_transcription"})])
    standins.api.routes[f"GET /transcriptions/{ID}"] = lambda request: request.answer_json(
        *next(shown, (200, document("queued")))
    )
    told: list[str | None] = []
    standins.client.upload(
        recording, {"language": "en"}, lambda progress: told.append(progress.waiting), resume=store
    )
    assert told[0] == "the upload had ended; it begins anew"
    assert len(standins.api.begun) == 2
    assert standins.bucket.tries == dict.fromkeys(range(1, 7), 1)
    assert not saved(store)


def test_an_upload_that_is_refused_for_good_is_begun_anew(
    standins: StandIns, recording: Path, store: UploadStore
) -> None:
    interrupt(standins, recording, store)
    standins.api.routes[LIST] = lambda request: request.problem(403, "not_yours")
    go_on(standins, recording, store)
    assert (len(standins.api.begun), standins.api.aborted) == (2, 0)
    assert not saved(store)


@pytest.mark.parametrize("status", [401, 500])
def test_an_upload_that_is_refused_for_now_is_kept(
    standins: StandIns, recording: Path, store: UploadStore, status: int
) -> None:
    interrupt(standins, recording, store)
    standins.api.routes[LIST] = lambda request: request.problem(status, "not_now")
    with pytest.raises(ServerProblem, match="not_now"):
        standins.client.upload(recording, {"language": "en"}, resume=store)
    assert (len(standins.api.begun), len(saved(store))) == (1, 1)


def test_an_upload_canceled_while_it_goes_on_is_not_begun_anew(
    standins: StandIns, recording: Path, store: UploadStore
) -> None:
    interrupt(standins, recording, store)
    standins.bucket.faults = {6: [no_such_upload]}
    standins.api.routes[f"GET /transcriptions/{ID}"] = lambda request: request.answer_json(
        200, document("canceled")
    )
    with pytest.raises(BucketRefused, match="NoSuchUpload"):
        standins.client.upload(recording, {"language": "en"}, resume=store)
    assert len(standins.api.begun) == 1


def test_an_upload_is_remembered_until_its_acceptance_could_be_told(
    standins: StandIns, recording: Path, store: UploadStore
) -> None:
    call = f"GET /transcriptions/{ID}"
    told = standins.api.routes[call]
    standins.api.routes[call] = lambda request: request.problem(500, "internal")
    with pytest.raises(ServerProblem, match="internal"):
        standins.client.upload(recording, {"language": "en"}, resume=store)
    assert (len(standins.api.completed), len(saved(store))) == (1, 1)
    standins.api.routes[call] = told
    standins.api.routes[LIST] = lambda request: request.problem(404, "no_such_upload")
    assert standins.client.upload(recording, {"language": "en"}, resume=store).id == ID
    assert (len(standins.api.begun), saved(store)) == (1, [])


def test_a_server_that_is_away_is_not_waited_for_at_the_start(
    standins: StandIns, recording: Path, store: UploadStore
) -> None:
    interrupt(standins, recording, store)
    standins.api.routes[LIST] = lambda request: request.reset()
    with pytest.raises(Unreachable):
        standins.client.upload(recording, {"language": "en"}, resume=store)
    assert len(saved(store)) == 1


def test_an_upload_of_another_key_is_left_to_it(
    standins: StandIns, recording: Path, store: UploadStore
) -> None:
    standins.bucket.faults = {6: [cut_in_the_middle] * 5}
    with client_with(standins, "bks_one") as one, pytest.raises(Unreachable):
        one.upload(recording, resume=store)
    standins.bucket.faults.clear()
    with client_with(standins, "bks_two") as two:
        two.upload(recording, resume=store)
    assert len(standins.api.begun) == 2
    with client_with(standins, "bks_one") as one:
        one.upload(recording, resume=store)
    assert len(standins.api.begun) == 2
    assert not saved(store)


def test_a_saved_upload_does_not_tell_the_key(
    standins: StandIns, recording: Path, store: UploadStore
) -> None:
    standins.bucket.faults = {6: [cut_in_the_middle] * 5}
    with client_with(standins, "bks_one") as client, pytest.raises(Unreachable):
        client.upload(recording, resume=store)
    [file] = saved(store)
    digest = hashlib.sha256(b"bks_one").hexdigest()
    assert not [word for word in ("bks_", digest) if word in file.name + file.read_text()]


def client_with(standins: StandIns, api_key: str) -> Client:
    return Client(standins.api.url, api_key=api_key, quick=FAST, patient=FAST)


# Giving up


def test_a_refused_recording_is_forgotten(standins: StandIns, recording: Path, store: UploadStore) -> None:
    def refuse(request: Any) -> None:
        request.body()
        request.problem(415, "unsupported_media")

    standins.api.routes[COMPLETE] = refuse
    with pytest.raises(ServerProblem, match="unsupported_media"):
        standins.client.upload(recording, resume=store)
    assert not saved(store)


def test_a_recording_refused_while_nobody_waited_is_not_sent_again(
    standins: StandIns, recording: Path, store: UploadStore
) -> None:
    interrupt(standins, recording, store)
    standins.api.routes[LIST] = lambda request: request.problem(415, "unsupported_media")
    with pytest.raises(ServerProblem, match="unsupported_media"):
        standins.client.upload(recording, {"language": "en"}, resume=store)
    assert (len(standins.api.begun), saved(store)) == (1, [])


def test_a_file_changed_while_it_was_sent_is_forgotten(
    standins: StandIns, recording: Path, store: UploadStore
) -> None:
    def change(_progress: UploadProgress) -> None:
        with recording.open("ab") as file:
            file.write(b"more")

    with pytest.raises(UploadFailed, match="file_changed"):
        standins.client.upload(recording, on_progress=change, resume=store)
    assert standins.api.aborted == 1
    assert not saved(store)


def test_a_store_that_cannot_be_written_to_costs_no_upload(
    standins: StandIns, recording: Path, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    store = UploadStore(tmp_path / "state" / "uploads")
    standins.client.upload(recording, resume=store)
    assert standins.bucket.arrived() == recording.read_bytes()


def test_an_upload_that_could_not_be_saved_is_aborted_when_it_fails(
    standins: StandIns, recording: Path, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    standins.bucket.valid_from = 1_000_000
    with pytest.raises(BucketRefused):
        standins.client.upload(recording, resume=UploadStore(tmp_path / "state" / "uploads"))
    assert standins.api.aborted == 1


# The store


def test_what_is_saved_is_the_users_alone(store: UploadStore) -> None:
    assert store.save("a", BEGUN)
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(file.stat().st_mode) for file in saved(store)] == [0o600]
    assert store.find("a") == BEGUN


def test_a_weeks_old_entry_is_gone(store: UploadStore) -> None:
    old, new = "a" * 64, "b" * 64
    store.save(old, BEGUN)
    store.save(new, BEGUN)
    unfinished = store.folder / "bucketscribe-abc.new"
    unfinished.touch()
    for file in (store.folder / f"{old}.json", unfinished):
        os.utime(file, (0, 0))
    assert store.find(new) == BEGUN
    assert store.find(old) is None
    assert [file.name for file in saved(store)] == [f"{new}.json"]


def test_files_of_others_in_the_folder_are_left_alone(store: UploadStore) -> None:
    store.folder.mkdir(parents=True)
    for name in ("thesis.doc", "settings.json", "draft.new"):
        (store.folder / name).touch()
        os.utime(store.folder / name, (0, 0))
    assert store.find("a" * 64) is None
    assert len(saved(store)) == 3


def test_who_has_no_home_has_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    assert not UploadStore.default().save("a", BEGUN)
    assert UploadStore.default().find("a") is None


def test_a_broken_entry_is_none(store: UploadStore) -> None:
    store.save("a", BEGUN)
    (store.folder / "a.json").write_text('{"id": ')
    assert store.find("a") is None


def test_an_upload_saved_in_anothers_place_is_not_forgotten(store: UploadStore) -> None:
    newer = BEGUN.model_copy(update={"uploadId": "another"})
    store.save("a", newer)
    store.remove("a", BEGUN)
    assert store.find("a") == newer


@pytest.mark.parametrize("given", ["/var/state", "relative", ""])
def test_the_default_store_is_where_the_xdg_specification_says(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", given)
    monkeypatch.setenv("HOME", "/home/somebody")
    base = "/var/state" if given == "/var/state" else "/home/somebody/.local/state"
    assert UploadStore.default().folder == Path(base, "bucketscribe", "uploads")


def key(
    path: Path,
    server: str = "http://a",
    asker: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> str:
    return key_of(server, asker, File(path), options or {})


def test_a_recording_is_known_wherever_it_lies(recording: Path, tmp_path: Path) -> None:
    before = key(recording)
    (tmp_path / "elsewhere").mkdir()
    assert key(Path(shutil.move(recording, tmp_path / "elsewhere"))) == before


def test_a_recording_with_other_bytes_another_time_or_name_is_another(
    recording: Path, tmp_path: Path
) -> None:
    facts = recording.stat()
    keys = {key(recording), key(recording, "http://b"), key(recording, options={"language": "en"})}
    os.utime(recording, ns=(0, facts.st_mtime_ns + 1))
    keys.add(key(recording))
    keys.add(key(recording.rename(tmp_path / "other.wav")))
    for offset in (0, facts.st_size - 1):
        with (tmp_path / "other.wav").open("r+b") as file:
            file.seek(offset)
            file.write(b"!")
        os.utime(tmp_path / "other.wav", ns=(0, facts.st_mtime_ns + 1))
        keys.add(key(tmp_path / "other.wav"))
    assert len(keys) == 7
