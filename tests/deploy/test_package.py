"""The package of the functions: made for Lambda's machine from the lock file, and nothing too much in it."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests.deploy import runtime

pytestmark = pytest.mark.deploy

MIB = 1024**2
MACHINES = {"x86_64": 62, "arm64": 183}
"""Of an ELF file's header, e_machine (System V ABI)."""

SETTINGS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_LAMBDA_FUNCTION_NAME": "function",
    "BUCKETSCRIBE_AUTH": "keys",
    "BUCKETSCRIBE_QUEUE_URL": "http://127.0.0.1:1/queue",
    "BUCKETSCRIBE_SECRET": "a secret for tests only",
    "PYTHONDONTWRITEBYTECODE": "1",
}
OF_THE_API = {"fastapi", "mangum", "starlette", "jwt", "cryptography", "anyio", "prometheus_client"}


def contents(package: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(package)): path.read_bytes() for path in package.rglob("*") if path.is_file()
    }


def machines(package: Path) -> set[int]:
    return {struct.unpack_from("<H", path.read_bytes(), 18)[0] for path in package.rglob("*.so")}


def modules(package: Path, handler: str) -> set[str]:
    """What a function has imported when its environment has begun."""
    script = f"import sys, bucketscribe.lambdas.{handler}; print(*sys.modules)"
    run = subprocess.run(
        [runtime.PYTHON, "-c", script], cwd=package, env=SETTINGS, check=True, capture_output=True, text=True
    )
    return set(run.stdout.split())


def test_every_function_has_the_same_package(package: Path, tmp_path: Path) -> None:
    assert contents(runtime.build(tmp_path, "SweepFunction")) == contents(package)


def test_it_is_made_for_the_machine_that_is_asked_for(package: Path, tmp_path: Path) -> None:
    assert machines(package) == {MACHINES["x86_64"]}
    assert machines(runtime.build(tmp_path, architecture="arm64")) == {MACHINES["arm64"]}


def test_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        runtime.build(tmp_path, architecture="riscv64")
    assert b"make it arm64 or x86_64" in refused.value.stderr


def test_neither_lambda_s_python_nor_the_folder_s_environment_need_be_there(tmp_path: Path) -> None:
    elsewhere, programs = tmp_path / "elsewhere", tmp_path / "programs"
    for folder in (elsewhere, programs):
        folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "uv.lock", ".python-version"):
        shutil.copy(runtime.ROOT / name, elsewhere)
    shutil.copytree(runtime.ROOT / "functions", elsewhere / "functions")
    uv = shutil.which("uv", path=f"{runtime.TOOLS / 'bin'}:{os.environ['PATH']}")
    another = shutil.which("python3", path="/usr/bin")
    if uv is None or another is None or "3.13" in os.fspath(Path(another).resolve()):
        pytest.skip("this machine has no other Python to build with")
    for program in ("make", "sh", "cp", "rm", "find", "chmod", "dirname", "env"):
        (programs / program).symlink_to(shutil.which(program) or "")
    (programs / "uv").symlink_to(uv)
    (programs / "python3").symlink_to(another)
    # Nor may uv fetch it, here: then there is no bytecode, and all the rest.
    only = {"PATH": str(programs), "UV_PYTHON_DOWNLOADS": "never", "UV_PYTHON_INSTALL_DIR": str(tmp_path)}
    package = tmp_path / "package"
    package.mkdir()
    built = subprocess.run(
        ["make", "--makefile", elsewhere / "functions/Makefile", "build-ApiFunction"],
        cwd=tmp_path,
        env=os.environ | only | {"ARTIFACTS_DIR": str(package), "LAMBDA_ARCHITECTURE": "arm64"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no bytecode" in built.stderr
    assert machines(package) == {MACHINES["arm64"]}
    assert (package / "bucketscribe/lambdas/api.py").exists()
    # No Node is there either: a page that is as new as its sources is not built again.
    assert (package / "bucketscribe/page/index.html").exists()


def test_it_is_small_and_has_bytecode_for_all_it_has(package: Path, tmp_path: Path) -> None:
    """Lambda takes 250 MB in all, and 50 MB zipped."""
    assert sum(map(len, contents(package).values())) < 60 * MIB
    zipped = shutil.make_archive(str(tmp_path / "package"), "zip", package)
    assert Path(zipped).stat().st_size < 20 * MIB
    ours = list((package / "bucketscribe").rglob("*.py"))
    assert ours
    for source in ours:
        compiled = source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc"
        # Flags 1: by a hash, which is not checked (PEP 552).
        assert compiled.read_bytes()[4:8] == b"\1\0\0\0"


def test_what_runs_elsewhere_is_not_in_it(package: Path) -> None:
    ours = {path.name for path in (package / "bucketscribe").iterdir() if path.is_dir()}
    assert not ours & {"worker", "cli", "client", "up"}
    assert {"api", "lambdas"} <= ours


@pytest.mark.parametrize("handler", ["completion", "sweep", "deadletters"])
def test_a_function_imports_nothing_that_only_the_api_needs(package: Path, handler: str) -> None:
    imported = modules(package, handler)
    assert "bucketscribe.service" in imported
    assert not imported & (OF_THE_API | {"bucketscribe.api"})


def test_the_api_imports_neither_tokens_nor_prometheus_before_it_needs_them(package: Path) -> None:
    imported = modules(package, "api")
    assert "bucketscribe.api.app" in imported
    assert not imported & {"jwt", "cryptography", "prometheus_client"}
