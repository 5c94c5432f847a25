"""The README and docs/ against the code they describe."""

import re
import socket
import subprocess
import sys
from pathlib import Path

from bucketscribe.settings import Settings

from tests.integration.test_story import up
from tests.servers import Servers

ROOT = Path(__file__).parents[2]


def carried_out(example: int, before: str = "", **environment: str) -> str:
    """What an example of the README prints, counted from 0, run as it stands after `before`."""
    marked = "<!-- run by tests/integration/test_readme.py -->\n```bash\n"
    script = (ROOT / "README.md").read_text().split(marked)[1 + example].split("```")[0]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{before}\n{script}"],
        cwd=ROOT,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_readme_s_example_runs_as_it_stands(tmp_path: Path) -> None:
    with up(tmp_path / "data") as server:
        said = carried_out(0, API=server)
    assert '"state":"completed"' in said
    assert "WEBVTT" in said
    assert "ask what you can do for your country" in said


def test_the_readme_s_example_for_a_network_runs_as_it_stands(servers: Servers) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "BUCKETSCRIBE_PORT": str(port),
        "BUCKETSCRIBE_MODEL": "tiny.en",
        "BUCKETSCRIBE_STOP_SECONDS": "0",
    }
    inherited = {name: value for name, value in servers.environment.items() if name != "PATH"}
    said = carried_out(1, "trap 'kill $(jobs -p)' EXIT", **inherited | settings)
    assert "what you can do for your country" in said
    assert '"state":"completed"' in said


def test_every_setting_is_in_the_docs_with_its_default() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = ",".join(default) if isinstance(default, tuple) else str(default)
        cell = "—" if default in (None, ()) else f"`{shown}`"
        assert f"| `BUCKETSCRIBE_{name.upper()}` | {cell} | {field.description} |" in text
    assert len(re.findall(r"^\| `BUCKETSCRIBE_", text, re.MULTILINE)) == len(Settings.model_fields)


def test_every_link_of_the_docs_leads_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_test_that_how_it_works_names_exists() -> None:
    text = (ROOT / "docs" / "how-it-works.md").read_text()
    sources = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_[a-z0-9_]+)`", text)
    assert named
    assert [name for name in named if f"def {name}(" not in sources] == []
