"""infra/compose against the code it runs: settings, names, secrets and images. Nothing is started.

tests/deploy/test_compose.py has Docker Compose itself read the files, and runs what they say.
"""

import re
from pathlib import Path

import pytest
from bucketscribe.settings import Settings
from bucketscribe.setup import JOBS, MAX_RECEIVES

FOLDER = Path(__file__).parents[2] / "infra" / "compose"
FILES = sorted(FOLDER.glob("*.yaml"))
EXAMPLE = FOLDER / ".env.example"
SECRETS = {
    "BUCKETSCRIBE_SECRET",
    "BUCKETSCRIBE_WEBHOOK_SECRET",
    "S3_ACCESS_KEY",
    "S3_SECRET_KEY",
    "EVENTS_TOKEN",
}


def everything() -> str:
    return "".join(file.read_text() for file in FILES)


def example() -> dict[str, str]:
    return dict(re.findall(r"(?m)^([A-Z0-9_]+)=(.*)$", EXAMPLE.read_text()))


def test_every_setting_that_is_named_exists() -> None:
    named = set(re.findall(r"BUCKETSCRIBE_([A-Z0-9_]+)", everything() + EXAMPLE.read_text()))
    assert "SECRET" in named
    # That one is the command line's.
    assert named - {name.upper() for name in Settings.model_fields} == {"SERVER"}


def test_every_variable_that_is_put_in_is_in_the_example() -> None:
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", everything()))
    assert used - set(example()) == set()
    assert set(example()) - used == {"COMPOSE_FILE", "COMPOSE_PROFILES"}


def test_no_secret_has_a_default() -> None:
    assert {name: example()[name] for name in SECRETS} == dict.fromkeys(SECRETS, "")
    for name in SECRETS:
        # Where it is first used it is required; nowhere is there another value to fall back on.
        assert f"${{{name}:?set it in .env" in everything()
        assert re.search(rf"\$\{{{name}:?-", everything()) is None
    assert "/.env" in (FOLDER / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("store", ["seaweedfs.yaml", "minio.yaml"])
def test_the_example_names_a_file_that_is_there(store: str) -> None:
    assert (FOLDER / store).exists()
    assert example()["COMPOSE_FILE"] == "seaweedfs.yaml"


def test_every_image_is_pinned() -> None:
    images = re.findall(r"(?m)^ +image: (\S+)$", everything())
    ours = {"bucketscribe-api", "bucketscribe-worker-cpu", "bucketscribe-worker-gpu"}
    assert ours < set(images)
    for image in set(images) - ours:
        assert re.fullmatch(r"\S+:(v?\d+\.\d+\S*|RELEASE\.[\dTZ-]+)", image), image


def test_the_queues_are_those_that_setup_makes() -> None:
    config = (FOLDER / "elasticmq.conf").read_text()
    assert re.findall(r"(?m)^  (bucketscribe\S+) \{", config) == [JOBS, f"{JOBS}-dead"]
    assert f'name = "{JOBS}-dead"' in config
    assert f"maxReceiveCount = {MAX_RECEIVES}\n" in config
    urls = re.findall(r"http://queue:(\d+)/(\d+)/(\S+)", everything())
    assert [name for _, _, name in urls] == [JOBS, f"{JOBS}-dead"]
    for port, account, _ in urls:
        assert f"bind-port = {port}\n" in config
        assert f'accountId = "{account}"\n' in config
    # What is not on the volume is gone with the container.
    assert 'uri = "jdbc:h2:/data/' in config
    assert "- queue:/data" in everything()


def test_minio_tells_the_api_under_the_name_that_setup_subscribes() -> None:
    minio = (FOLDER / "minio.yaml").read_text()
    (name,) = set(re.findall(r"MINIO_NOTIFY_WEBHOOK_[A-Z_]+_([a-z]+):", minio))
    assert f"arn:minio:sqs::{name}:webhook" in minio
    assert re.search(rf"ENDPOINT_{name}: (\S+)", minio)[1] == "http://api:8000/events/s3"  # type: ignore[index]


def test_the_proxy_leads_to_what_is_there() -> None:
    caddyfile = (FOLDER / "Caddyfile").read_text()
    assert re.findall(r"reverse_proxy (\S+)", caddyfile) == ["api:8000", "store:9000"]
    used = set(re.findall(r"\{\$([A-Z0-9_]+)\}", caddyfile))
    proxy = (FOLDER / "services.yaml").read_text().split("  proxy:\n")[1].split("\n  queue:")[0]
    assert used == set(re.findall(r"(?m)^      ([A-Z0-9_]+): ", proxy))
