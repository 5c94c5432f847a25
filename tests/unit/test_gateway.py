"""What stands before the API on a Lambda: no answer comes too late or is too large for who passes it on."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import MagicMock

import pytest
from bucketscribe.api import gateway
from bucketscribe.api.gateway import ANSWER_BYTES, Gateway

Answering = Callable[[Callable[[dict[str, Any]], Awaitable[None]]], Awaitable[None]]


def asked(answering: Answering) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of what an application's answer becomes."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answering(send)

    async def keep(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    asyncio.run(Gateway(app)({"type": "http"}, receive, keep))
    assert [message["type"] for message in sent].count("http.response.start") == 1
    assert not sent[-1].get("more_body")
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], dict(sent[0]["headers"]), body


def start(status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [(b"x", b"y")]}


def body(content: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


def test_an_answer_goes_through_as_it_is() -> None:
    async def answer(send: Any) -> None:
        await send(start(201))
        await send(body(b"a", more=True))
        await send(body(b"b"))

    assert asked(answer) == (201, {b"x": b"y"}, b"ab")


def test_an_answer_that_does_not_come_in_time_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "ANSWER_SECONDS", 0.01)

    async def answer(send: Any) -> None:
        await asyncio.Event().wait()

    status, headers, said = asked(answer)
    assert (status, headers[b"retry-after"]) == (503, b"5")
    assert b'"code":"storage_unavailable"' in said


def test_a_stream_that_does_not_end_in_time_ends_with_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "ANSWER_SECONDS", 0.01)

    async def answer(send: Any) -> None:
        await send(start())
        await send(body(b"data: 1\n\n", more=True))
        await asyncio.Event().wait()

    assert asked(answer) == (200, {b"x": b"y"}, b"data: 1\n\n")


def test_what_is_said_after_the_time_is_over_is_no_part_of_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gateway, "ANSWER_SECONDS", 0.01)
    said_late = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await send(start(500))
            await send(body(b"late"))
            said_late.set()

    sent: list[Any] = []

    async def slowly(message: Any) -> None:
        # As a gateway that is waited for: the task comes to its turn meanwhile.
        await said_late.wait()
        sent.append(message)

    asyncio.run(Gateway(app)({"type": "http"}, MagicMock(), slowly))
    assert [message.get("status") for message in sent] == [503, None]


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"9")]])
def test_an_answer_without_its_body_is_none(
    monkeypatch: pytest.MonkeyPatch, headers: list[tuple[bytes, bytes]]
) -> None:
    monkeypatch.setattr(gateway, "ANSWER_SECONDS", 0.01)

    async def answer(send: Any) -> None:
        await send(start() | {"headers": headers})
        if headers:
            await send(body(b"half", more=True))
        await asyncio.Event().wait()

    status, _, said = asked(answer)
    assert status == 503
    assert b'"code":"storage_unavailable"' in said


@pytest.mark.parametrize("content", [b"x" * (ANSWER_BYTES + 1), b'"' * (ANSWER_BYTES // 2 + 1)])
def test_an_answer_that_does_not_fit_says_to_ask_for_less(content: bytes) -> None:
    """The answer goes on as a string in a JSON document, where a quote takes two bytes."""

    async def answer(send: Any) -> None:
        await send(start())
        await send(body(content))

    status, _, said = asked(answer)
    assert status == 422
    assert b'"code":"answer_too_large"' in said


def test_what_is_no_request_is_not_held() -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "lifespan.startup.complete"})
        assert sent

    async def keep(message: Any) -> None:
        sent.append(message)

    asyncio.run(Gateway(app)({"type": "lifespan"}, MagicMock(), keep))


def test_what_goes_wrong_is_not_kept_back() -> None:
    async def answer(send: Any) -> None:
        raise LookupError("no")

    with pytest.raises(LookupError):
        asked(answer)
