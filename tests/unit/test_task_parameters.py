"""The older service's parameters, and ids made from its clients' names."""

import re
from pathlib import Path

import pytest
from bucketscribe.errors import Problem
from bucketscribe.options import MOST_IGNORED, MOST_IGNORED_CHARACTERS, OPTION_NAMES, read_metadata
from bucketscribe.records import is_id
from bucketscribe.settings import Settings
from bucketscribe.task_parameters import IGNORED, USED, understand
from bucketscribe.tasks import id_named

PAGE = Path(__file__).parents[2] / "docs/migrating.md"


@pytest.fixture
def settings() -> Settings:
    return Settings(webhook_secret="whsec_" + "A" * 32)


def test_every_parameter_is_on_the_page_with_what_it_does() -> None:
    page = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE.read_text(), re.MULTILINE))
    told = USED | {name: f"No effect: {why}" for name, why in IGNORED.items()}
    assert {name: text for name, text in page.items() if name in told} == told


def test_what_does_something_is_an_option_and_what_does_not_is_none() -> None:
    assert set(USED) - {"callback_url"} <= set(OPTION_NAMES)
    assert not set(IGNORED) & set(OPTION_NAMES)


def test_what_has_no_effect_is_named_and_the_rest_is_understood(settings: Settings) -> None:
    given = {
        "language": "de",
        "device": "cuda",
        "hotwords": "",
        "x-case": "7",
        "frobnicate": "1",
        "a" * 99: "1",
    }
    metadata, ignored = understand(given, settings)
    assert metadata == {"language": "de", "x-case": "7"}
    assert ignored == ("device", "frobnicate", "a" * MOST_IGNORED_CHARACTERS)
    assert read_metadata(metadata, settings).options.language == "de"


def test_a_callback_is_told_by_the_older_document(settings: Settings) -> None:
    asked = read_metadata(
        understand({"callback_url": "https://example.com/done"}, settings).metadata, settings
    )
    assert (asked.options.webhook_url, asked.as_task) == ("https://example.com/done", True)


def test_only_so_much_is_kept_of_what_has_no_effect(settings: Settings) -> None:
    _, ignored = understand({f"a{number}": "1" for number in range(1000)}, settings)
    assert len(ignored) == MOST_IGNORED


@pytest.mark.parametrize("asked", [{"model": "tiny.en"}, {}])
def test_a_model_for_english_only_is_not_asked_to_translate(asked: dict[str, str]) -> None:
    settings = Settings(model="base" if asked else "tiny.en")
    with pytest.raises(Problem, match=r"tiny\.en knows English only, and .*: base") as refused:
        read_metadata({"task": "translate", **asked}, settings)
    assert (refused.value.code, refused.value.extra) == ("invalid_option", {"option": "model"})
    assert read_metadata({"task": "translate", "model": "base"}, settings).options.task == "translate"


def test_a_name_makes_ids_that_are_ids() -> None:
    assert all(is_id(id_named(name)) for name in ("a", "é", "\ud800", "x" * 64))
    assert id_named("a")[-16:] == id_named("a")[-16:] != id_named("b")[-16:]
