"""Which engine a worker uses, what it is told, and what is said where its extra is not installed."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from bucketscribe.settings import Settings
from bucketscribe.worker.engines.faster_whisper import FasterWhisper
from bucketscribe.worker.main import make_engine

WHISPERX = "bucketscribe.worker.engines.whisperx"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a stand-in for the engine on WhisperX is made of: torch is heavy, and not needed here."""
    told: dict[str, Any] = {}

    class WhisperXStandIn:
        def __init__(self, resolve: Any, **settings: Any) -> None:
            told.update(settings, resolve=resolve)

    module: Any = ModuleType(WHISPERX)
    module.WhisperX = WhisperXStandIn
    monkeypatch.setitem(sys.modules, WHISPERX, module)
    return told


def test_the_light_engine_needs_no_setting(tmp_path: Path) -> None:
    assert isinstance(make_engine(Settings(data_dir=tmp_path)), FasterWhisper)


def test_whisperx_is_told_all_that_is_set(tmp_path: Path, told: dict[str, Any]) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    make_engine(
        Settings(
            engine="whisperx",
            models_dir=tmp_path,
            model=str(folder),
            allowed_models=(str(folder),),
            device="cpu",
            compute_type="int8",
            batch_size=3,
            align_models=("de=some/model", "en=/models/a=b"),
            diarize_model="some/speakers",
            hf_token="hf_secret",
        )
    )
    assert told.pop("resolve")(str(folder)) == str(folder)
    assert told == {
        "device": "cpu",
        "compute_type": "int8",
        "batch_size": 3,
        "models_dir": tmp_path,
        "align_models": {"de": "some/model", "en": "/models/a=b"},
        "diarize_model": "some/speakers",
        "hf_token": "hf_secret",
    }


def test_without_a_token_there_is_none(told: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    make_engine(Settings(engine="whisperx"))
    assert told["hf_token"] is None
    assert told["align_models"] == {}


def test_the_hub_s_own_client_has_the_token_too(
    told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    make_engine(Settings(engine="whisperx"))
    assert told["hf_token"] == "hf_other"
    make_engine(Settings(engine="whisperx", hf_token="hf_ours"))
    assert (told["hf_token"], os.environ["HF_TOKEN"]) == ("hf_ours", "hf_ours")


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    without = (
        "import sys; sys.modules |= {'torch': None, 'whisperx': None}; sys.argv = ['bucketscribe', 'worker']"
    )
    environment = os.environ | {
        "BUCKETSCRIBE_ENGINE": "whisperx",
        "BUCKETSCRIBE_DATA_DIR": str(tmp_path),
        "BUCKETSCRIBE_QUEUE_URL": "http://127.0.0.1:9/0/jobs",
        "BUCKETSCRIBE_REGION": "us-east-1",
        "BUCKETSCRIBE_SECRET": "a secret for tests only",
    }
    command = [sys.executable, "-c", f"{without}; from bucketscribe.cli.main import app; app()"]
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("is not installed: install bucketscribe[whisperx]. [missing_extra]\n")
    assert "Traceback" not in done.stderr


def test_told_to_stop_before_it_has_its_models_it_ends(tmp_path: Path) -> None:
    """By a handler of its own: the first process of a container is not ended by the signal itself."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = os.environ | {
            "BUCKETSCRIBE_DATA_DIR": str(tmp_path),
            "BUCKETSCRIBE_S3_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "BUCKETSCRIBE_MODELS_URL": "s3://models/all",
            "BUCKETSCRIBE_QUEUE_URL": "http://127.0.0.1:9/0/jobs",
            "BUCKETSCRIBE_SECRET": "a secret for tests only",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
        command = [sys.executable, "-m", "bucketscribe.cli.main", "worker"]
        with subprocess.Popen(command, env=environment) as process:
            silent.settimeout(60)
            connection, _ = silent.accept()
            process.terminate()
            assert process.wait(10) == 0
            connection.close()
