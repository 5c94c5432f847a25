"""OpenAI's shape: what a form asks for, and how a transcript is told."""

import json
from typing import Any

import pytest
from bucketscribe.api.openai_answers import document, text_events
from bucketscribe.api.openai_form import AudioForm, read_form
from bucketscribe.errors import Problem
from bucketscribe.languages import ENGLISH_NAMES
from bucketscribe.options import LANGUAGES, MOST_IGNORED_CHARACTERS
from bucketscribe.transcript import Segment, Transcript, Word

MODELS = ("base", "tiny.en")


def form(**fields: str | list[str]) -> AudioForm:
    lists = {name: [value] if isinstance(value, str) else value for name, value in fields.items()}
    return read_form(lists, "transcribe", MODELS)


def transcript(text: str, *said: str, language: str | None = "en") -> Transcript:
    words = (Word(start=0, end=0.5, word=" Ask", probability=0.9),)
    return Transcript(
        id="",
        text=text,
        language=language,
        language_probability=None,
        duration=11,
        segments=tuple(
            Segment(id=number, start=number, end=number + 1, text=each, words=words)
            for number, each in enumerate(said)
        ),
        engine="",
        model="",
    )


def deltas(transcript: Transcript) -> list[str]:
    *pieces, done = [json.loads(event.removeprefix("data: ")) for event in text_events(transcript)]
    assert done == {"type": "transcript.text.done", "text": transcript.text}
    assert {piece["type"] for piece in pieces} <= {"transcript.text.delta"}
    return [piece["delta"] for piece in pieces]


def test_every_language_has_an_english_name() -> None:
    assert tuple(ENGLISH_NAMES) == LANGUAGES


def test_a_form_with_nothing_but_a_file_asks_for_the_server_s_own_choices() -> None:
    asked = form()
    assert asked == AudioForm({"task": "transcribe"}, "json", True, False, False, ())


def test_what_clients_send_is_told_in_our_words() -> None:
    asked = form(model="base", language="de", prompt="Ann", response_format="vtt", temperature="0.0")
    assert asked.options == {
        "task": "transcribe",
        "model": "base",
        "language": "de",
        "initial_prompt": "Ann",
    }
    assert (asked.response_format, asked.ignored) == ("vtt", ())


@pytest.mark.parametrize("name", ["whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"])
def test_openai_s_models_are_the_server_s_own(name: str) -> None:
    assert "model" not in form(model=name).options


def test_a_model_that_has_openai_s_name_here_is_itself() -> None:
    assert read_form({"model": ["whisper-1"]}, "transcribe", ["whisper-1"]).options["model"] == "whisper-1"


def test_of_a_prompt_that_is_longer_than_is_heard_the_end_is_kept() -> None:
    assert form(prompt="x" * 5000 + " end").options["initial_prompt"].endswith("x end")
    assert len(form(prompt="x" * 5000).options["initial_prompt"]) == 2000


def test_what_has_no_effect_is_named() -> None:
    sent: dict[str, Any] = {"include[]": "logprobs", "chunking_strategy[type]": "server_vad"}
    assert form(temperature="0.4", **sent).ignored == ("chunking_strategy", "include", "temperature")


@pytest.mark.parametrize(
    ("granularities", "shown"),
    [([], (True, False)), (["word"], (False, True)), (["segment", "word"], (True, True))],
)
def test_times_are_told_as_fine_as_was_asked(granularities: list[str], shown: tuple[bool, bool]) -> None:
    fields: dict[str, Any] = {"timestamp_granularities[]": granularities}
    asked = form(response_format="verbose_json", **fields)
    assert (asked.segments, asked.words) == shown
    told = document(transcript("Ask not", "Ask not"), asked).model_dump(exclude_none=True)
    assert ("segments" in told, "words" in told) == shown


@pytest.mark.parametrize(
    ("fields", "named", "said"),
    [
        ({"model": "large"}, "model", "base, tiny.en"),
        ({"model": "gpt-4o-transcribe-diarize"}, "model", "whisper-1"),
        ({"response_format": "diarized_json"}, "response_format", "verbose_json"),
        ({"timestamp_granularities[]": ["word"]}, "timestamp_granularities", "verbose_json only"),
        (
            {"timestamp_granularities[]": ["char"], "response_format": "verbose_json"},
            "timestamp_granularities",
            "'char'",
        ),
        ({"temperature": "warm"}, "temperature", "from 0 to 1"),
        ({"temperature": "nan"}, "temperature", "from 0 to 1"),
        ({"temperature": "1.5"}, "temperature", "from 0 to 1"),
        ({"stream": "perhaps"}, "stream", "true or false"),
        ({"stream": "true", "response_format": "srt"}, "stream", "srt"),
    ],
)
def test_what_would_be_another_answer_is_refused_by_name(
    fields: dict[str, Any], named: str, said: str
) -> None:
    with pytest.raises(Problem) as refused:
        form(**fields)
    assert (refused.value.code, refused.value.extra) == ("invalid_option", {"option": named})
    assert said in refused.value.detail


def test_the_pieces_of_a_stream_are_the_text() -> None:
    spoken = transcript("Ask not, ask. And so on", "Ask not,", "ask.", "And so on")
    assert deltas(spoken) == ["Ask not, ", "ask. ", "And so on"]
    without_spaces = transcript("問うな。問え。", "問うな。", "問え。", language="ja")
    assert deltas(without_spaces) == ["問うな。", "問え。"]


def test_captions_that_are_not_the_text_s_own_lose_nothing_of_it() -> None:
    assert "".join(deltas(transcript("Ask  not\nwhy", "Ask not", "nowhere", "why"))) == "Ask  not\nwhy"


def test_where_nobody_speaks_there_is_no_piece() -> None:
    assert deltas(transcript("", language=None)) == []
    told = document(transcript("", language=None), form(response_format="verbose_json"))
    assert told.model_dump(exclude_none=True) == {
        "task": "transcribe",
        "language": "",
        "duration": 11.0,
        "text": "",
        "segments": [],
        "usage": {"type": "duration", "seconds": 11.0},
    }


def test_a_translation_is_in_english_whatever_was_spoken() -> None:
    asked = read_form({"response_format": ["verbose_json"]}, "translate", MODELS)
    told = document(transcript("Ask", "Ask", language="de"), asked).model_dump(exclude_none=True)
    assert (told["task"], told["language"]) == ("translate", "english")
    assert "usage" not in told


def test_only_so_much_is_kept_of_what_has_no_effect() -> None:
    ignored = form(**{f"{'x' * 16_000}{number}": "1" for number in range(2)}, seed="7").ignored
    assert ignored == ("seed", "x" * MOST_IGNORED_CHARACTERS)
