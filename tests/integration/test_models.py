"""From a model's name to its files: in the models folder, from a bucket, from the hub.

The bucket is real; the hub cannot be reached from where tests run, and `tests/hub.py` stands in for it.
"""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from bucketscribe.bucket import Bucket
from bucketscribe.settings import Settings
from bucketscribe.worker import model_store
from bucketscribe.worker.engines.base import ModelUnavailable, StageSkipped
from bucketscribe.worker.model_download import get_alignment
from bucketscribe.worker.model_folder import stored
from bucketscribe.worker.model_store import ModelStore, fetch
from bucketscribe.worker.models import resolve

from tests.conftest import LaterBucket
from tests.hub import GOOD_TOKEN, Hub, hub
from tests.unit.test_cli import environment, run

GATED = "pyannote/speaker-diarization-community-1"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        file = folder / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def whisper(folder: Path, model: str, weights: str = "weights") -> Path:
    """What looks like a model of CTranslate2."""
    at = folder / "whisper" / model
    return write(
        at, config_dot_json="{}", vocabulary_dot_txt="a", tokenizer_dot_json="{}", model_dot_bin=weights
    )


def tree(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


# In the models folder


@pytest.mark.parametrize("model", ["large-v3", "tiny.en", "base", "Systran/faster-whisper-small"])
def test_what_lies_in_the_models_folder_is_taken_first_and_left_as_it_is(tmp_path: Path, model: str) -> None:
    own = whisper(tmp_path, model)
    before = tree(tmp_path)
    assert resolve(model, tmp_path) == str(own)
    assert tree(tmp_path) == before


def test_half_a_model_in_the_folder_is_none(tmp_path: Path) -> None:
    whisper(tmp_path, "large-v3")
    (tmp_path / "whisper" / "large-v3" / "model.bin").unlink()
    assert resolve("large-v3", tmp_path) == "large-v3"
    assert list(stored(tmp_path)) == []


@pytest.mark.parametrize("model", ["../secret", "a/../../secret", ".", "", "~", "/etc", "a/.hidden"])
def test_no_name_leads_out_of_the_models_folder(tmp_path: Path, model: str) -> None:
    models = tmp_path / "models"
    for place in (tmp_path / "secret", models / "whisper" / "secret", models / "whisper"):
        write(place, model_dot_bin="weights")
    try:
        assert resolve(model, models) == model  # as a name for the hub, which knows none of these
    except ModelUnavailable:
        return


# From a bucket


@pytest.fixture
def shop(settings: Settings, bucket: LaterBucket, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a worker whose models are in a bucket of their own, below a prefix; it has none yet."""
    named = {"models_url": "s3://models/for/us", "models_dir": tmp_path / "models"}
    settings = settings.model_copy(update=named)
    models = Bucket.connect(settings.model_copy(update={"bucket": "models"}))
    models.client.create_bucket(Bucket="models")
    yield settings
    models.delete_all("for/")
    models.client.delete_bucket(Bucket="models")


def put(shop: Settings, **files: bytes) -> None:
    models = Bucket.connect(shop.model_copy(update={"bucket": "models"}))
    for name, body in files.items():
        models.put(name.replace("__", "/").replace("_dot_", "."), body)


def test_a_worker_brings_what_it_lacks_and_nothing_else(
    shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = os.urandom(20 * 1024**2)  # in several parts
    put(
        shop,
        **{
            "for/us/whisper/small/model.bin": large,
            "for/us/whisper/small/config.json": b"{}",
            "for/us/align/de/config.json": b"{}",
            "for/us/folder/": b"",
            "for/us-not/whisper/other/model.bin": b"others'",
        },
    )
    whisper(shop.models_folder, "small", weights="a shorter one")
    write(shop.models_folder, whisper__own__model_dot_bin="own")
    fetch(shop)
    assert tree(shop.models_folder) == {
        "whisper/small/model.bin": large,
        "whisper/small/config.json": b"{}",
        "whisper/small/tokenizer.json": b"{}",
        "whisper/small/vocabulary.txt": b"a",
        "whisper/own/model.bin": b"own",
        "align/de/config.json": b"{}",
    }
    monkeypatch.setattr(ModelStore, "copy", None)  # nobody may ask for it
    fetch(shop)


def test_no_key_leads_out_of_the_models_folder(shop: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers differ in which keys they take, so what a listing may say is said by a stand-in."""
    put(shop, **{"for/us/whisper/a/model.bin": b"weights"})
    listing = Bucket.listing

    def with_harm(bucket: Bucket, prefix: str, *rest: Any) -> Iterator[Any]:
        for entry in listing(bucket, prefix, *rest):
            yield entry
            for harm in (
                "../out",
                "whisper/../../out",
                "/etc/out",
                "a//out",
                ".ssh/out",
                "whisper/.x",
                "a\0b",
            ):
                yield type(entry)(prefix + harm, 1, entry.etag, entry.modified)

    monkeypatch.setattr(Bucket, "listing", with_harm)
    fetch(shop)
    assert list(tree(shop.models_folder.parent)) == ["models/whisper/a/model.bin"]


def test_a_worker_that_dies_leaves_no_half_model(shop: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("tokenizer.json", "vocabulary.txt", "config.json", "model.bin")
    put(shop, **{f"for/us/whisper/small/{name}": name.encode() for name in names})
    copy = ModelStore.copy

    def dying(store: ModelStore, kept: model_store.Kept, *rest: Any) -> None:
        if kept.name.endswith("vocabulary.txt"):
            raise ModelUnavailable("it died here")
        copy(store, kept, *rest)

    monkeypatch.setattr(ModelStore, "copy", dying)
    with pytest.raises(ModelUnavailable, match="died"):
        fetch(shop)
    monkeypatch.undo()
    assert resolve("small", shop.models_folder) == "small"
    fetch(shop)
    assert resolve("small", shop.models_folder) == str(shop.models_folder / "whisper" / "small")


def test_two_workers_may_fill_one_folder(shop: Settings) -> None:
    bodies = {f"for/us/whisper/m{number}/model.bin": os.urandom(300_000) for number in range(8)}
    put(shop, **bodies)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            fetch(shop)
        except BaseException as error:  # noqa: BLE001 -- told to the test
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {f"for/us/{name}": body for name, body in tree(shop.models_folder).items()} == bodies


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://models/nothing", "There is nothing at s3://models/nothing"),
        ("s3://no-such-bucket/models", "NoSuchBucket.*Check BUCKETSCRIBE_MODELS_URL"),
    ],
)
def test_a_bucket_without_models_is_told(shop: Settings, url: str, said: str) -> None:
    with pytest.raises(ModelUnavailable, match=said):
        fetch(shop.model_copy(update={"models_url": url}))


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(
    shop: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shop, **{"for/us/whisper/a/model.bin": b"weights"})

    class Full(NamedTuple):
        free: int = 3

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Full())
    with pytest.raises(ModelUnavailable, match="larger disk"):
        fetch(shop)
    assert tree(shop.models_folder) == {}


# From the hub


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Hub]:
    """A hub that has the real tiny.en, a pipeline behind a licence, and what is no model for us."""
    with hub() as started:
        installed = Path(resolve("tiny.en", tmp_path / "none"))
        tiny = tmp_path / "tiny"
        shutil.copytree(installed, tiny)
        write(tiny, README_dot_md="about", _dot_gitattributes="")
        started.repositories["Systran/faster-whisper-tiny.en"] = tiny
        started.repositories["openai/whisper-tiny"] = write(tmp_path / "torch", config_dot_json="{}")
        started.repositories[GATED] = write(
            tmp_path / "gated", config_dot_yaml="pipeline:", plda__a_dot_npz="x", segmentation__b_dot_bin="y"
        )
        started.gated.add(GATED)
        yield started


def get(hub_url: str, folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run("models", "get", "--into", str(folder), *words, HF_ENDPOINT=hub_url, **more)


def test_a_model_is_fetched_from_the_hub_and_hears(published: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    done = get(published.url, folder, "tiny.en")
    assert done.returncode == 0, done.stderr
    home = folder / "whisper" / "tiny.en"
    assert tree(home) == {
        name: body
        for name, body in tree(published.repositories["Systran/faster-whisper-tiny.en"]).items()
        if name not in ("README.md", ".gitattributes")
    }
    program = (
        "import sys; from faster_whisper import WhisperModel\n"
        "parts, _ = WhisperModel(sys.argv[1], device='cpu', compute_type='int8').transcribe(sys.argv[2])\n"
        "print(''.join(part.text for part in parts))"
    )
    words = [resolve("tiny.en", folder), "tests/media/jfk.wav"]
    said = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=environment(HF_HUB_OFFLINE="1"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "what you can do for your country" in said.stdout
    listed = run("models", "ls", "--into", str(folder))
    assert listed.stdout.split("\t")[:2] == ["whisper", "tiny.en"]
    again = get("http://127.0.0.1:9", folder, "tiny.en")  # what is there is not asked for
    assert (again.returncode, "is there" in again.stderr) == (0, True)


@pytest.mark.long
def test_a_fetch_that_breaks_off_leaves_no_model_and_goes_on(published: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    # model.bin comes before these two, and is whole when one breaks off.
    published.breaks["tokenizer.json"] = 1000
    broken = get(published.url, folder, "tiny.en")
    assert broken.returncode == 1
    assert "[model_unavailable]" in broken.stderr
    assert list(stored(folder)) == []
    away = get("http://127.0.0.1:9", folder, "tiny.en")
    assert away.returncode == 1
    assert "does not answer" in away.stderr
    assert list(stored(folder)) == []
    published.breaks.clear()
    published.served.clear()
    assert get(published.url, folder, "tiny.en").returncode == 0
    assert [model.name for model in stored(folder)] == ["tiny.en"]
    assert not any(served.startswith("model.bin") for served in published.served)


@pytest.mark.parametrize(
    ("token", "todo"),
    [
        ("", f"accept the licence at https://huggingface.co/{GATED} and set BUCKETSCRIBE_HF_TOKEN"),
        ("hf_a_bad_one", "with the account of BUCKETSCRIBE_HF_TOKEN, or set another token"),
    ],
)
def test_what_cannot_be_had_is_told_with_what_to_do_and_costs_the_others_nothing(
    published: Hub, tmp_path: Path, token: str, todo: str
) -> None:
    folder = tmp_path / "models"
    names = ["nobody/knows-it,no-such-size", "tiny.en", "openai/whisper-tiny", "../out", "--diarize"]
    done = get(published.url, folder, *names, BUCKETSCRIBE_HF_TOKEN=token)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    for error, said in zip(
        errors,
        [
            "knows no model nobody/knows-it",
            "Nobody knows a model 'no-such-size'",
            "has no model.bin",
            "'../out' is no model's name",
            todo,
        ],
        strict=True,
    ):
        assert said in error
        assert error.endswith("[model_unavailable]")
    assert "Traceback" not in done.stderr
    assert [model.name for model in stored(folder)] == ["tiny.en"]


def test_who_has_accepted_the_licence_gets_what_tells_speakers_apart(published: Hub, tmp_path: Path) -> None:
    done = get(published.url, tmp_path / "models", "--diarize", HF_TOKEN=GOOD_TOKEN)
    assert done.returncode == 0, done.stderr
    kept = tmp_path / "models" / "diarization"
    assert tree(kept) == tree(published.repositories[GATED])


@pytest.mark.parametrize("words", [[], ["--align", "english"]])
def test_a_command_that_makes_no_sense_fetches_nothing(tmp_path: Path, words: list[str]) -> None:
    assert get("http://127.0.0.1:9", tmp_path / "models", *words).returncode == 2
    assert not (tmp_path / "models").exists()


@pytest.mark.long
def test_an_alignment_model_is_fetched_as_whisperx_loads_it(published: Hub, tmp_path: Path) -> None:
    from tests.media.models import wav2vec2

    published.repositories["someone/polish"] = wav2vec2(
        tmp_path / "polish", "aąbcćdeęfghijklłmnńoóprsśtuwyzźż"
    )
    folder = tmp_path / "models"
    named = {"BUCKETSCRIBE_ALIGN_MODELS": "pl=someone/polish", "HTTPS_PROXY": "http://127.0.0.1:9"}
    # English is torchaudio's, which nobody reaches here; WhisperX names none for Estonian.
    done = get(published.url, folder, "--align", "en,pl,et", **named)
    assert done.returncode == 1
    english, estonian = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert "cannot be fetched from download.pytorch.org" in english
    assert "BUCKETSCRIBE_ALIGN_MODELS as et=MODEL" in estonian
    assert [(model.kind, model.name) for model in stored(folder)] == [("align", "pl")]
    program = (
        "import sys; from whisperx.alignment import load_align_model\n"
        "model, about = load_align_model('pl', 'cpu', sys.argv[1])\n"
        "print('ł' in about['dictionary'], type(model).__name__)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(folder / "align" / "pl")],
        env=environment(HF_HUB_OFFLINE="1"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["True", "Wav2Vec2ForCTC"]
    again = get("http://127.0.0.1:9", folder, "--align", "pl", **named)
    assert (again.returncode, "is there" in again.stderr) == (0, True)


@pytest.fixture
def breaks_off(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stands in for where torchaudio's models are: the connection breaks in the middle of one."""
    from torchaudio.pipelines._wav2vec2 import utils

    class Breaking(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "377000000")
            self.end_headers()
            self.wfile.write(b"PK\x03\x04" + bytes(200_000))

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Breaking)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    load, here = utils.load_state_dict_from_url, f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(
        utils,
        "load_state_dict_from_url",
        lambda url, **how: load(url.replace("https://download.pytorch.org", here), **how),
    )
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.long
@pytest.mark.usefixtures("breaks_off")
def test_an_alignment_model_whose_download_broke_off_is_not_there(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ModelUnavailable, match="cannot be fetched"):
            get_alignment("en", tmp_path, None, None)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.long
@pytest.mark.usefixtures("breaks_off")
def test_a_worker_keeps_no_half_of_an_alignment_model(tmp_path: Path) -> None:
    from bucketscribe.worker.engines.memory import Warm, free_on_cpu
    from bucketscribe.worker.engines.wav2vec2 import Wav2Vec2

    other = tmp_path / "align" / "wav2vec2_voxpopuli_base_10k_asr_de.pt"
    other.parent.mkdir()
    other.touch()
    with pytest.raises(StageSkipped) as skipped:
        Wav2Vec2(Warm(free_on_cpu), "cpu", tmp_path, {}).load("en")
    assert skipped.value.code == "alignment_unavailable"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [other]
