"""API keys from the command line that makes them to the server that takes them, in a real bucket."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bucketscribe.auth import Scope
from bucketscribe.cli import keys as keys_command
from bucketscribe.client import Client
from bucketscribe.keys import ApiKey, Keys, digest_of
from bucketscribe.service import Service
from bucketscribe.settings import Settings

from tests.conftest import LaterBucket
from tests.integration.test_client import serving
from tests.media.make import JFK
from tests.servers import Servers
from tests.unit.test_cli import command, environment, on_a_terminal, run

ALL = tuple(Scope)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"auth": ("keys",)})


@pytest.fixture
def operator(servers: Servers, bucket: LaterBucket) -> dict[str, str]:
    """The operator's environment. The bucket is empty."""
    names = ("BUCKETSCRIBE_", "AWS_")
    given = {name: value for name, value in servers.environment.items() if name.startswith(names)}
    return given | {"BUCKETSCRIBE_AUTH": "keys"}


def readable(bucket: LaterBucket) -> list[tuple[str, ApiKey]]:
    """Every key in the bucket, all of which must be readable."""
    found = []
    for held in Keys(bucket).all():
        assert held.key is not None
        found.append((held.digest, held.key))
    return found


def new(operator: dict[str, str], *words: str) -> str:
    """A key that the command line made; nobody hears of it but by standard output."""
    done = run("keys", "new", *words, **operator)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"bks_[0-9a-f]{40}\n", done.stdout)
    assert done.stdout.strip() not in done.stderr
    return done.stdout.strip()


def test_the_examples_of_the_documentation_run(
    bucket: LaterBucket, operator: dict[str, str], tmp_path: Path
) -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    made, revoked = re.findall(
        r"<!-- run by \S*test_keys_command\.py -->\n```bash\n(.*?)```", text, re.DOTALL
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for script, names in ((made, {"Zoë's laptop", "backup"}), (revoked, set())):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=environment(PATH=path, **operator),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert {key.name for _, key in readable(bucket)} == names


# Using them


@pytest.mark.long
def test_with_a_key_everything_can_be_done(
    service: Service, operator: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key = new(operator, "me")
    said = ""
    with serving(service) as server:
        user = {"BUCKETSCRIBE_SERVER": server, "BUCKETSCRIBE_API_KEY": key, "XDG_STATE_HOME": str(tmp_path)}
        sent = run("transcribe", str(JFK), "--no-wait", **user)
        id = sent.stdout.strip()
        for words in (["ls"], ["show", id], ["cancel", id], ["retry", id], ["cancel", id]):
            done = run(*words, **user)
            assert done.returncode == 0, done.stderr
            assert id in done.stdout
            said += done.stdout + done.stderr
        with Client(server, api_key=key) as client:
            assert client.wait(id).state == "canceled"
        assert run("rm", id, **user).returncode == 0
    said += "".join(capfd.readouterr())
    assert "canceled" in said
    assert key not in said


def test_a_key_for_local_reaches_what_was_sent_before_anybody_signed_in(
    settings: Settings, service: Service, operator: dict[str, str]
) -> None:
    open_to_all = settings.model_copy(update={"auth": ()})
    with serving(Service.of(open_to_all, service.bucket, service.queue)) as server, Client(server) as client:
        id = client.upload(JFK).id
    with serving(service) as server:
        for words, seen in ((["local"], False), (["me", "--owner", "local"], True)):
            with Client(server, api_key=new(operator, *words)) as client:
                assert [found.id for found in client.list().transcriptions] == [id] * seen


@pytest.mark.long
def test_keys_of_one_owner_reach_the_same_and_those_of_others_do_not(
    service: Service, operator: dict[str, str]
) -> None:
    first = new(operator, "phone", "--owner", "Zoë")
    [shown] = [json.loads(line) for line in run("keys", "ls", "--json", **operator).stdout.splitlines()]
    with serving(service) as server:
        with Client(server, api_key=first) as client:
            id = client.upload(JFK).id
        for owner, seen in (("Zoë", True), (shown["owner"], True), ("Zoe", False)):
            with Client(server, api_key=new(operator, "laptop", "--owner", owner)) as client:
                assert [found.id for found in client.list().transcriptions] == [id] * seen


def test_a_key_that_was_revoked_is_refused(service: Service, operator: dict[str, str]) -> None:
    key = new(operator, "me")
    with serving(service) as server:
        assert run("ls", "--server", server, BUCKETSCRIBE_API_KEY=key).returncode == 0
    assert run("keys", "revoke", "me", **operator).returncode == 0
    # A server that has not seen it lately; one that has may remember it for a minute.
    with serving(service) as server:
        done = run("ls", "--server", server, BUCKETSCRIBE_API_KEY=key)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("They are those in BUCKETSCRIBE_API_KEY. [bad_credentials]\n")


def test_a_key_ends_when_it_was_to(service: Service, bucket: LaterBucket, operator: dict[str, str]) -> None:
    key = new(operator, "me", "--expires", "2h")
    for later, status in ((timedelta(hours=1), 0), (timedelta(hours=3), 1)):
        bucket.later = later
        with serving(service) as server:
            done = run("ls", "--server", server, BUCKETSCRIBE_API_KEY=key)
        assert done.returncode == status, done.stderr
    assert "[credentials_expired]" in done.stderr


def test_a_key_allows_what_it_was_made_for(service: Service, operator: dict[str, str]) -> None:
    key = new(operator, "reader", "--scope", "read")
    with serving(service) as server:
        user = {"BUCKETSCRIBE_SERVER": server, "BUCKETSCRIBE_API_KEY": key}
        assert run("ls", **user).returncode == 0
        done = run("transcribe", str(JFK), "--no-wait", **user)
    assert done.returncode == 1
    assert done.stderr.endswith("Set BUCKETSCRIBE_API_KEY to a key that has it. [scope_missing]\n")


# Making them


def test_what_is_said_of_a_new_key_is_what_the_bucket_holds(
    bucket: LaterBucket, operator: dict[str, str]
) -> None:
    words = "Zoë's phone", "--scope", "admin", "--scope", "read", "--expires", "2999-01-31"
    done = run("keys", "new", *words, **operator)
    [(digest, key)] = readable(bucket)
    assert digest == digest_of(done.stdout.strip())
    assert (key.name, key.scopes) == (words[0], (Scope.READ, Scope.ADMIN))
    assert key.expires == datetime(2999, 1, 31, tzinfo=UTC)
    assert re.fullmatch(r"zoe-s-phone-[0-9a-f]{16}", key.owner)
    assert done.stderr.splitlines() == [
        "That is the API key, for BUCKETSCRIBE_API_KEY or a Bearer header. It is not shown again.",
        f"id: {digest[:12]}, owner: {key.owner}, scopes: read, admin, expires: 2999-01-31T00:00:00Z",
    ]


def test_nobody_gets_admin_without_asking(bucket: LaterBucket, operator: dict[str, str]) -> None:
    new(operator, "me")
    [(_, key)] = readable(bucket)
    assert (key.scopes, key.expires) == ((Scope.UPLOAD, Scope.READ, Scope.WRITE), None)


def test_a_name_that_was_used_before_opens_nothing_of_another_s(
    bucket: LaterBucket, operator: dict[str, str]
) -> None:
    new(operator, "phone")
    new(operator, "phone")
    one, other = (key.owner for _, key in readable(bucket))
    assert one != other


def test_the_scopes_one_can_give_are_those_there_are() -> None:
    assert [scope.value for scope in keys_command.Scope] == [scope.value for scope in Scope]


@pytest.mark.parametrize("when", ["0d", "2001-01-01"])
def test_a_key_that_had_ended_already_is_not_made(
    bucket: LaterBucket, operator: dict[str, str], when: str
) -> None:
    done = run("keys", "new", "me", "--expires", when, **operator)
    assert (done.returncode, done.stdout) == (2, "")
    assert "already" in done.stderr
    assert not list(Keys(bucket).all())


def test_a_key_that_could_not_be_told_does_not_stay(bucket: LaterBucket, operator: dict[str, str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("keys", "new", "me"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            env=environment(**operator),
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "Error: standard output: No space left on device. [not_written]\n"
    assert not list(Keys(bucket).all())


# Listing and revoking them


def test_a_key_that_cannot_be_read_here_is_listed_and_can_be_revoked(
    bucket: LaterBucket, operator: dict[str, str]
) -> None:
    digest = "ab" * 32
    bucket.put(f"keys/{digest}.json", b'{"schema": 99}')
    assert "(not readable here)" in run("keys", "ls", **operator).stdout
    assert json.loads(run("keys", "ls", "--json", **operator).stdout) == {"id": digest[:12]}
    assert run("keys", "revoke", digest[:12], **operator).returncode == 0
    assert not list(Keys(bucket).all())


@pytest.mark.long
def test_keys_are_listed_newest_first_in_every_form(bucket: LaterBucket, operator: dict[str, str]) -> None:
    keys = Keys(bucket)
    bucket.later = timedelta(days=-2)
    old = digest_of(keys.new("old", "local", ALL, bucket.now() + timedelta(days=1)))
    bucket.later = timedelta()
    young = digest_of(keys.new("young", "somebody-0123456789abcdef", (Scope.READ,), None))
    assert old is not None
    assert young is not None
    lines = [line.split("\t") for line in run("keys", "ls", **operator).stdout.splitlines()]
    assert [(id, owner, scopes, name) for id, _, owner, scopes, _, name in lines] == [
        (young[:12], "somebody-0123456789abcdef", "read", "young"),
        (old[:12], "local", "upload,read,write,admin", "old"),
    ]
    shown = [json.loads(line) for line in run("keys", "ls", "--json", **operator).stdout.splitlines()]
    assert [set(one) for one in shown] == [{"id", "name", "owner", "scopes", "created", "expires"}] * 2
    assert [one["id"] for one in shown] == [young[:12], old[:12]]
    table = on_a_terminal("keys", "ls", COLUMNS="120", NO_COLOR="1", **operator)
    ends = [re.sub(r"\x1b\[[0-9;]*m", "", line).split()[4] for line in table.splitlines()]
    assert ends == ["expires", "never", "expired"]


@pytest.mark.long
def test_a_name_cannot_steer_a_terminal(bucket: LaterBucket, operator: dict[str, str]) -> None:
    Keys(bucket).new("a\x1b[2J\tb\nc\u202e", "local", ALL, None)
    shown = run("keys", "ls", **operator).stdout
    assert shown.count("\t") == 5
    assert shown.count("\n") == 1
    for words in ([], ["--json"]):
        printed = run("keys", "ls", *words, **operator).stdout
        assert printed.replace("\t", "").replace("\n", "").isprintable()
    assert "\x1b[2J" not in on_a_terminal("keys", "ls", **operator)


@pytest.mark.parametrize("how", ["id", "digest", "name", "text"])
def test_a_key_is_revoked_by_its_id_its_name_or_itself(
    bucket: LaterBucket, operator: dict[str, str], how: str
) -> None:
    keys = Keys(bucket)
    other = digest_of(keys.new("other", "local", ALL, None))
    text = keys.new("me", "local", ALL, None)
    digest = digest_of(text) or ""
    words = {"id": digest[:12], "digest": digest, "name": "me", "text": "-"}
    done = subprocess.run(
        command("keys", "revoke", words[how]),
        input=f"{text}\n",
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**operator),
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{digest[:12]}  revoked\n"), done.stderr
    assert text not in done.stderr
    assert [held.digest for held in keys.all()] == [other]


def test_a_key_typed_at_a_terminal_is_not_shown(bucket: LaterBucket, operator: dict[str, str]) -> None:
    keys = Keys(bucket)
    text = keys.new("me", "local", ALL, None)
    shown = on_a_terminal("keys", "revoke", "-", answer=f"{text}\n", **operator)
    assert "revoked" in shown
    assert text not in shown
    assert not list(keys.all())


def test_a_name_that_several_keys_have_revokes_none(bucket: LaterBucket, operator: dict[str, str]) -> None:
    keys = Keys(bucket)
    digests = [digest_of(keys.new("me", "local", ALL, None)) or "" for _ in range(2)]
    done = run("keys", "revoke", "me", **operator)
    assert (done.returncode, done.stdout) == (1, "")
    assert all(digest[:12] in done.stderr for digest in digests)
    assert done.stderr.endswith("[several_keys]\n")
    assert len(list(keys.all())) == 2


@pytest.mark.long
@pytest.mark.parametrize("word", ["nobody", "0123456789ab"])
def test_a_key_that_is_not_there_cannot_be_revoked(operator: dict[str, str], word: str) -> None:
    done = run("keys", "revoke", word, **operator)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("[no_such_key]\n")
