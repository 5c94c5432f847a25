"""How long a run will need the engine."""

from datetime import UTC, datetime

import pytest
from bucketscribe.options import Options
from bucketscribe.records import Record, State, new_id
from bucketscribe.worker.forecast import Forecast


def recording(size: int, **options: object) -> Record:
    """A queued transcription of so many bytes."""
    now = datetime.now(UTC)
    return Record(
        id=new_id(),
        owner="local",
        state=State.QUEUED,
        created=now,
        updated=now,
        key="uploads/local/x/talk.wav",
        name="talk.wav",
        content_type="audio/wav",
        size=size,
        options=Options.model_validate(options),
    )


def test_nothing_is_known_before_the_first_run() -> None:
    assert Forecast().left(recording(1000), 0) is None


def test_twice_the_bytes_take_twice_the_time() -> None:
    forecast = Forecast()
    forecast.learn(recording(1000), 4.0)
    assert forecast.left(recording(2000), 3.0) == pytest.approx(5.0)


def test_one_run_that_took_long_is_not_the_rule() -> None:
    forecast = Forecast()
    for seconds in (4.0, 4.0, 400.0, 4.0, 4.0):
        forecast.learn(recording(1000), seconds)
    assert forecast.left(recording(1000), 0) == pytest.approx(4.0)


def test_what_was_long_ago_is_forgotten() -> None:
    forecast = Forecast()
    for seconds in [40.0] * 8 + [4.0] * 8:
        forecast.learn(recording(1000), seconds)
    assert forecast.left(recording(1000), 0) == pytest.approx(4.0)


def test_what_takes_longer_than_expected_may_take_as_long_again() -> None:
    forecast = Forecast()
    forecast.learn(recording(1000), 4.0)
    assert forecast.left(recording(1000), 50.0) == pytest.approx(50.0)


@pytest.mark.parametrize("options", [{"model": "tiny.en"}, {"diarize": True}])
def test_another_model_and_speakers_are_another_kind_of_run(options: dict[str, object]) -> None:
    forecast = Forecast()
    forecast.learn(recording(1000), 4.0)
    assert forecast.left(recording(1000, **options), 0) is None
