"""What `doctor --worker` says before the first job: as a command, and look by look.

A GPU is nowhere near: the driver's tool, which tells of one, is a script that stands in for it.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bucketscribe.bucket import Bucket
from bucketscribe.probe import Finding, Verdict
from bucketscribe.settings import Settings
from bucketscribe.worker import device, inspection
from bucketscribe.worker.device import Gpu, memory_of
from bucketscribe.worker.inspection import inspect
from bucketscribe.worker.model_inspection import ModelLooks
from huggingface_hub import constants

from tests.conftest import LaterBucket
from tests.hub import GOOD_TOKEN, Hub, hub
from tests.integration.test_models import whisper, write
from tests.servers import Servers
from tests.unit.test_cli import run

NOBODY = "http://127.0.0.1:9"
PIPELINE = "pyannote/speaker-diarization-community-1"
GIB = 2**30


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that has a model, and a pipeline behind a licence."""
    with hub() as started:
        started.repositories["Systran/faster-whisper-small"] = write(tmp_path / "hub-a", model_dot_bin="x")
        started.repositories[PIPELINE] = write(tmp_path / "hub-b", config_dot_yaml="x")
        started.gated.add(PIPELINE)
        monkeypatch.setattr(constants, "ENDPOINT", started.url)
        yield started


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub answers."""
    monkeypatch.setattr(constants, "ENDPOINT", NOBODY)


def settings_of(folder: Path, **more: Any) -> Settings:
    named = {"data_dir": folder / "data", "model": "tiny.en", "allowed_models": ("tiny.en",)}
    return Settings(**{**named, **more})


def all_of(settings: Settings, with_bucket: bool = False) -> dict[str, Finding]:
    return {finding.name: finding for _, finding in inspect(settings, with_bucket)}


def betterments(settings: Settings, in_store: frozenset[str] = frozenset()) -> dict[str, Finding]:
    """What WhisperX would have besides words; looked at without it."""
    with ThreadPoolExecutor() as threads:
        models = ModelLooks(settings, threads, in_store)
        return {finding.name: finding for finding in [*models._alignment(), *models._speakers()]}


def grave(findings: dict[str, Finding]) -> set[str]:
    return {name for name, finding in findings.items() if finding.grave}


# The command


def test_a_worker_that_has_all_is_told_so(servers: Servers, bucket: LaterBucket, tmp_path: Path) -> None:
    ours = {
        name: value for name, value in servers.environment.items() if name.startswith(("BUCKETSC", "AWS"))
    }
    ours |= {"BUCKETSCRIBE_MODEL": "tiny.en", "HF_ENDPOINT": NOBODY}
    done = run("doctor", "--worker", "--json", **ours)
    found = {finding["name"]: finding for finding in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, done.stdout + done.stderr
    assert {finding["verdict"] for finding in found.values()} == {"ok"}
    assert list(found) == [
        *("engine", "device", "compute type", "memory", "models folder", "temporary folder"),
        *("tiny.en", "base", "bucket", "queue"),
    ]
    assert {finding["part"] for finding in found.values()} == {"worker", "models", "bucket"}


def test_what_is_missing_is_told_with_what_to_do_and_soon(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        begun = time.monotonic()
        done = run(
            *("doctor", "--worker"),
            HF_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
            BUCKETSCRIBE_DATA_DIR=str(tmp_path),
            BUCKETSCRIBE_MODEL="large-v3",
            BUCKETSCRIBE_ALLOWED_MODELS="large-v3,tiny.en",
            BUCKETSCRIBE_DEVICE="cuda",
        )
        seconds = time.monotonic() - begun
    assert done.returncode == 1
    assert "To be put right: device, large-v3." in done.stdout
    assert "--gpus all" in done.stdout
    assert "`bucketscribe models get large-v3` where it does" in done.stdout
    assert seconds < 20


# Where it computes


def nvidia_smi(folder: Path, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for the driver's tool, and for a GPU that CTranslate2 sees."""
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{says}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(device, "_sees_gpu", lambda settings: True)


@pytest.mark.usefixtures("away")
@pytest.mark.parametrize(("free", "enough"), [(22000, True), (4000, False)])
def test_the_gpu_and_whether_the_model_fits_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, enough: bool
) -> None:
    nvidia_smi(tmp_path, f"NVIDIA L4, 23034, {free}", monkeypatch)
    assert device._gpu() == Gpu("NVIDIA L4", 23034 * 2**20, free * 2**20)
    whisper(tmp_path / "data" / "models", "large-v3")
    findings = all_of(settings_of(tmp_path, model="large-v3", allowed_models=("large-v3",)))
    assert "NVIDIA L4" in findings["device"].seen
    assert (findings["memory"].verdict is Verdict.OK) is enough
    assert "large-v3 in float16 takes about 4.5 GB" in findings["memory"].seen
    # Nobody has installed them here.
    assert findings["CUDA libraries"].grave
    assert "LD_LIBRARY_PATH" in findings["CUDA libraries"].means


@pytest.mark.usefixtures("away")
def test_numbers_that_the_device_does_not_compute_with_are_grave(tmp_path: Path) -> None:
    finding = all_of(settings_of(tmp_path, device="cpu", compute_type="float16"))["compute type"]
    assert finding.grave
    assert "int8" in finding.means


@pytest.mark.parametrize(
    ("model", "compute_type", "low", "high"),
    [
        # faster-whisper's README has 4,525 MB and 2,926 MB on a GPU, weights and room.
        ("large-v2", "float16", 4.3, 4.8),
        ("large-v2", "int8", 2.8, 3.1),
        ("Systran/faster-whisper-large-v3", "float16", 4.3, 4.8),
        ("turbo", "float16", 2.8, 3.2),
        ("distil-whisper/distil-large-v3.5-ct2", "float16", 2.7, 3.0),
        ("tiny.en", "int8", 1.3, 1.6),
    ],
)
def test_how_much_memory_a_model_takes(model: str, compute_type: str, low: float, high: float) -> None:
    needs = memory_of(model, compute_type, on_gpu=True, engine="whisperx")
    assert needs is not None
    assert low < needs / 1e9 < high


def test_nothing_is_made_up_about_a_model_nobody_knows() -> None:
    assert memory_of("somebody/whistler", "int8", on_gpu=True, engine="whisperx") is None


def test_an_engine_that_is_not_installed_is_told_and_the_rest_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "find_spec", lambda name: None)
    findings = all_of(settings_of(tmp_path, engine="whisperx"))
    assert findings["engine"].grave
    assert findings["engine"].means == "install bucketscribe[whisperx]"
    assert findings["temporary folder"].verdict is Verdict.OK


def test_an_engine_that_is_broken_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(inspection, "import_module", broken)
    assert "libcudart" in all_of(settings_of(tmp_path))["engine"].seen


# Folders


@pytest.mark.usefixtures("away")
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    findings = all_of(settings_of(tmp_path))
    assert findings["models folder"].verdict is Verdict.MISSING
    assert not findings["models folder"].grave  # what comes with a package works


@pytest.mark.usefixtures("away")
def test_a_disk_too_small_for_speakers_is_covered_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "SPEAKERS_BYTES", 10**15)
    places = {
        finding.name: finding for finding in inspection._places(settings_of(tmp_path, engine="whisperx"))
    }
    assert places["disk for speakers"].verdict is Verdict.MISSING
    assert not places["disk for speakers"].grave
    assert "[diarization_failed]" in places["disk for speakers"].means


# Models


@pytest.mark.usefixtures("published")
def test_a_model_that_the_hub_gives_can_be_waited_for_and_another_cannot(tmp_path: Path) -> None:
    models = ("tiny.en", "small", "medium", "no-such-size", "/etc")
    findings = all_of(settings_of(tmp_path, allowed_models=models))
    assert findings["tiny.en"].verdict is Verdict.OK
    assert findings["small"].verdict is Verdict.MISSING
    assert "fetched from the hub when it is first asked for" in findings["small"].means
    assert grave(findings) == {"medium", "no-such-size"}


def test_models_of_the_bucket_count_as_there(settings: Settings, bucket: LaterBucket, tmp_path: Path) -> None:
    bucket.put("models/whisper/small/model.bin", b"x")
    bucket.put("models/align/de/config.json", b"{}")
    bucket.put("models/diarization/config.yaml", b"x")
    named = {"model": "small", "allowed_models": ("small",), "models_dir": tmp_path}
    with_models = settings.model_copy(update=named | {"models_url": f"s3://{settings.bucket}/models"})
    findings = all_of(with_models, with_bucket=True)
    assert grave(findings) == set()
    assert "3 files" in findings["bucket of models"].seen
    assert findings["small"].seen == "in the bucket of models"
    names = frozenset(entry.key.removeprefix("models/") for entry in bucket.listing("models/"))
    better = betterments(with_models, names)
    assert {name: finding.verdict for name, finding in better.items()} == {
        "alignment": Verdict.OK,
        "speakers": Verdict.OK,
    }


@pytest.mark.usefixtures("away")
def test_a_bucket_of_models_that_cannot_be_read_is_grave(settings: Settings, tmp_path: Path) -> None:
    named = {"models_url": "s3://no-such-bucket/models", "models_dir": tmp_path}
    findings = all_of(settings.model_copy(update=named))
    assert findings["bucket of models"].grave
    assert "NoSuchBucket" in findings["bucket of models"].seen


@pytest.mark.usefixtures("away")
def test_a_bucket_that_does_not_answer_is_grave(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = settings.model_copy(update={"bucket": "no-such-bucket", "queue_url": None})
    findings = {finding.name: finding for finding in inspection._stores(lost)}
    assert findings["bucket"].grave
    assert findings["queue"].verdict is Verdict.UNKNOWN
    assert Bucket.connect(settings).now()


@pytest.mark.parametrize(
    ("token", "verdict", "said"),
    [
        (
            "",
            Verdict.MISSING,
            f"accept the licence at https://huggingface.co/{PIPELINE} and set BUCKETSCRIBE_HF",
        ),
        ("hf_a_bad_one", Verdict.MISSING, "with the account of BUCKETSCRIBE_HF_TOKEN, or set another token"),
        (GOOD_TOKEN, Verdict.OK, "fetched when first asked for"),
    ],
)
@pytest.mark.usefixtures("published")
def test_a_licence_that_is_not_accepted_is_told_before_the_first_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str, verdict: Verdict, said: str
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    speakers = betterments(settings_of(tmp_path, hf_token=token or None))["speakers"]
    assert speakers.verdict is verdict
    assert said in speakers.means
    assert not speakers.grave


@pytest.mark.usefixtures("away")
def test_what_only_betters_a_transcript_is_covered_for(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, align_models=("pl=/no/such/folder",))
    findings = betterments(settings)
    assert {finding.verdict for finding in findings.values()} == {Verdict.MISSING}
    assert grave(findings) == set()
    assert "[alignment_unavailable]" in findings["alignment"].means
    assert "[diarization_unavailable]" in findings["speakers"].means
    assert "/no/such/folder" in findings["alignment of pl"].seen
    write(settings.models_folder, align__de__config_dot_json="{}", diarization__config_dot_yaml="x")
    write(settings.models_folder / "align", wav2vec2_fairseq_base_ls960_asr_ls960_dot_pth="x")
    findings = betterments(settings_of(tmp_path))
    assert findings["alignment"].seen == "de, en"
    assert findings["speakers"].verdict is Verdict.OK


# With WhisperX itself


@pytest.mark.long
@pytest.mark.usefixtures("away")
def test_a_worker_with_whisperx_is_looked_at(tmp_path: Path) -> None:
    findings = all_of(settings_of(tmp_path, engine="whisperx"))
    assert grave(findings) == set()
    assert findings["engine"].seen == "whisperx 3.8.6"
    assert {name for name, finding in findings.items() if finding.verdict is Verdict.MISSING} >= {
        "alignment",
        "speakers",
    }
