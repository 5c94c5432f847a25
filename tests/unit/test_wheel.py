"""The wheel: what is installed anywhere else has the page in it."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

from bucketscribe.api import page

ROOT = Path(__file__).parents[2]


def test_a_wheel_has_the_page_that_was_built(tmp_path: Path) -> None:
    built = {f"bucketscribe/page/{name}": file.content for name, file in page.read(page.FOLDER).items()}
    assert built, "there is no page: `make page` builds it"
    uv = shutil.which("uv", path=f"{ROOT / '.tools' / 'bin'}:{os.environ['PATH']}")
    assert uv is not None
    # By way of the source distribution, as `make wheel` has it made.
    subprocess.run(
        [uv, "build", "--quiet", "--offline", "--out-dir", tmp_path], cwd=ROOT, check=True, timeout=60
    )
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if "/page/" in name and not name.endswith("/")]
        assert {name: archive.read(name) for name in names} == built
