"""What an HTTP API in front of a Lambda allows: an answer after 30 s at most, and of 6 MB at most.

What is longer or larger would become an error of the gateway's own, with no word on what to do. So an
answer is held until it is whole, as a Lambda gives it away anyway. One that does not come in time is not
waited for; what it was to change, it may change yet: every request can be repeated.
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import Problem
from .problems import answer

ANSWER_SECONDS = 27.0
"""An environment may have to be started first, and the gateway is waiting by then."""

ANSWER_BYTES = 6_000_000
"""A little less than Lambda's limit, which is for the answer's headers and form as well."""

RETRY_SECONDS = 5


class Gateway:
    """ASGI middleware that answers with Problem `storage_unavailable` or `answer_too_large` instead."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        task = asyncio.ensure_future(self.app(scope, receive, keep))
        await asyncio.wait({task}, timeout=ANSWER_SECONDS)
        # A copy: what a task that is canceled still says belongs to no answer.
        held = [*messages]
        if task.done():
            task.result()
        else:
            task.cancel()
            if not _is_stream(held):
                await _too_late()(scope, receive, send)
                return
            # Its reader goes on where it ends.
            held.append({"type": "http.response.body", "body": b""})
        if sum(map(_size, held)) > ANSWER_BYTES:
            await _too_large()(scope, receive, send)
            return
        for message in held:
            await send(message)


def _is_stream(messages: list[Message]) -> bool:
    """Whether an answer can be read without its end: something of it is there, and no length is promised."""
    lengths = (name for message in messages for name, _ in message.get("headers", ()))
    return b"content-length" not in lengths and any(message.get("body") for message in messages)


def _size(message: Message) -> int:
    """Bytes of a part of an answer in Lambda's answer, a JSON document that has it as a string."""
    body: bytes = message.get("body", b"")
    return len(body) + body.count(b'"') + body.count(b"\\")


def _too_late() -> ASGIApp:
    detail = "The object store has not answered in time. Nothing is lost; try again in a moment."
    return answer(Problem("storage_unavailable", detail, {"retryAfter": RETRY_SECONDS}))


def _too_large() -> ASGIApp:
    detail = (
        "All of this is more than fits into one answer. Ask for less at once: fewer parts, a lower limit."
    )
    return answer(Problem("answer_too_large", detail))
