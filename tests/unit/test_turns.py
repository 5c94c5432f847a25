"""The line before the engine: one at a time, in order, and nobody behind one who is gone."""

import threading
import time

import pytest
from bucketscribe.worker.turns import Turn, Turns

PATIENCE_SECONDS = 10.0


class GivenUp(Exception):
    """What a run's check raises when it is to stop."""


def nothing() -> None:
    """A check that lets everybody wait on."""


def taking(turn: Turn) -> tuple[threading.Thread, threading.Event]:
    """Somebody who waits for a turn, and what is set once he has it."""
    has = threading.Event()
    waits = threading.Event()

    def wait() -> None:
        turn.take(waits.set)
        has.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert waits.wait(PATIENCE_SECONDS)
    return thread, has


def test_turns_come_in_the_order_in_which_the_runs_joined() -> None:
    turns = Turns()
    first, second, third = turns.join(), turns.join(), turns.join()
    first.take(nothing)
    _, last_has = taking(third)
    _, next_has = taking(second)
    assert not next_has.is_set()
    first.end()
    assert next_has.wait(PATIENCE_SECONDS)
    assert not last_has.is_set()
    second.end()
    assert last_has.wait(PATIENCE_SECONDS)


def test_who_leaves_the_line_without_a_turn_holds_nobody_up() -> None:
    turns = Turns()
    first, second, third = turns.join(), turns.join(), turns.join()
    first.take(nothing)
    _, has = taking(third)
    second.end()
    first.end()
    assert has.wait(PATIENCE_SECONDS)
    assert (second.taken, second.over, second.seconds) == (False, True, 0.0)


def test_who_waits_can_give_up() -> None:
    def check() -> None:
        raise GivenUp

    turns = Turns()
    first, second = turns.join(), turns.join()
    first.take(check)  # its turn already: nobody is asked
    with pytest.raises(GivenUp):
        second.take(check)
    assert not second.taken


def test_a_turn_may_be_taken_and_ended_twice() -> None:
    over: list[str] = []
    turn = Turns().join(lambda: over.append("over"))
    turn.take(nothing)
    turn.take(nothing)
    assert (turn.taken, turn.over, over) == (True, False, [])
    turn.end()
    turn.end()
    assert (turn.over, over) == (True, ["over"])


def test_the_time_that_counts_is_that_with_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    turns = Turns()
    first, second = turns.join(), turns.join()
    first.take(nothing)
    now = 107.0
    assert (first.seconds, second.seconds) == (7.0, 0.0)
    first.end()
    second.take(nothing)
    now = 110.0
    assert (first.seconds, second.seconds) == (7.0, 3.0)


def test_who_stands_aside_holds_nobody_up_and_gets_in_line_behind_all_others() -> None:
    turns = Turns()
    aside, other = turns.join(aside=True), turns.join()
    other.take(nothing)
    assert (aside.aside, other.aside) == (True, False)
    aside.get_in_line()
    aside.get_in_line()
    _, has = taking(aside)
    assert not has.is_set()
    other.end()
    assert has.wait(PATIENCE_SECONDS)
    assert not aside.aside


def test_who_ends_aside_has_told_so_and_never_gets_in_line() -> None:
    turns, ended = Turns(), threading.Event()
    turn = turns.join(ended.set, aside=True)
    turn.end()
    turn.get_in_line()
    assert (ended.is_set(), turn.over, turn.aside) == (True, True, False)
    turns.join().take(nothing)
