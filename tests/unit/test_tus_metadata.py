"""What a client says of a file when it uploads by tus."""

from base64 import b64encode

import pytest
from bucketscribe.errors import Problem
from bucketscribe.tus_metadata import read_upload_metadata


def header(**values: str) -> str:
    return ",".join(f"{name} {b64encode(value.encode()).decode()}" for name, value in values.items())


def test_the_name_that_says_more_comes_first() -> None:
    told = read_upload_metadata(header(name="a.wav", filename="Ünï 話.wav", filetype="audio/wav", type="x"))
    assert (told.name, told.type) == ("Ünï 話.wav", "audio/wav")


@pytest.mark.parametrize("word", ["undefined", "null", ""])
def test_what_a_file_does_not_have_is_not_there(word: str) -> None:
    told = read_upload_metadata(header(filename="talk.wav", filetype=word, language=word, mood=word))
    assert (told.type, told.options, told.ignored) == (None, {}, ())


def test_what_nobody_knows_has_no_effect_and_is_named() -> None:
    told = read_upload_metadata(header(filename="talk.wav", mood="good", relativePath="a/talk.wav"))
    assert told.ignored == ("mood",)


def test_the_older_service_s_task_is_neither_an_option_nor_unknown() -> None:
    told = read_upload_metadata(header(filename="talk.wav", taskId="meeting-7"))
    assert (told.task, told.options, told.ignored) == ("meeting-7", {}, ())


def test_a_name_by_which_no_task_could_be_asked_for_has_no_effect_and_is_named() -> None:
    longest, longer = (read_upload_metadata(header(taskId="a" * length)) for length in (64, 65))
    assert (longest.task, longest.ignored) == ("a" * 64, ())
    assert (longer.task, longer.ignored) == (None, ("taskId",))


@pytest.mark.parametrize(
    "text", ["filename !", "filename YQ==,filename YQ==", ",a YQ==", "a b c", "name /w=="]
)
def test_what_is_no_list_of_names_and_values_is_refused(text: str) -> None:
    with pytest.raises(Problem) as refused:
        read_upload_metadata(text)
    assert refused.value.code == "invalid_upload_metadata"
