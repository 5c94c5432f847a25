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


def test_the_readme_s_example_runs_as_it_stands(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    script = text.split("<!-- run by tests/integration/test_readme.py -->\n```bash\n")[1].split("```")[0]
    with up(tmp_path / "data") as server:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=ROOT,
            env={"API": server, "PATH": "/usr/local/bin:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"state":"completed"' in done.stdout
    assert "WEBVTT" in done.stdout
    assert "ask what you can do for your country" in done.stdout


def test_the_readme_s_example_for_a_network_runs_as_it_stands(servers: Servers) -> None:
    text = (ROOT / "README.md").read_text()
    script = text.split("<!-- run by tests/integration/test_readme.py -->\n```bash\n")[2].split("```")[0]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"trap 'kill $(jobs -p)' EXIT\n{script}"],
        cwd=ROOT,
        env=servers.environment
        | {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "BUCKETSCRIBE_PORT": str(port),
            "BUCKETSCRIBE_MODEL": "tiny.en",
            "BUCKETSCRIBE_STOP_SECONDS": "0",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "what you can do for your country" in done.stdout
    assert '"state":"completed"' in done.stdout


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
