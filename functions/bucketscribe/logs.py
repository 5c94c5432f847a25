"""Structured logs: one event a line, as text for people or as JSON for machines.

What nobody may learn from a log is taken out of every line, whoever wrote it: API keys, tokens, signatures
and cookies, wherever in a value or in a traceback they stand. And no value can look like a line of its own:
in text, what follows a line break is indented, and control characters are written as their codes.
"""

import logging
import re
import sys

import structlog
from structlog.typing import EventDict, WrappedLogger

from .settings import Settings

REDACTED = "[redacted]"

_SECRET_NAMES = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})

_SECRETS = re.compile(
    # An API key, or a token of ours.
    r"(?P<key>bk[st]_)[A-Za-z0-9_-]+"
    # What signs webhooks.
    r"|(?P<webhook>whsec_)[A-Za-z0-9+/=_-]+"
    # A token of the Hugging Face hub.
    r"|(?P<hub>\bhf_)[A-Za-z0-9]{16,}"
    # A JSON Web Token (RFC 7519): pieces of base64url, the first of which begins with `{"`.
    r"|eyJ[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*){2,}"
    # An upload token in a path, but not a route's `{token}`.
    r"|(?P<path>/u/)(?!\{)[^\s/?#\"'\\]+"
    # What signs a presigned URL, or a form.
    r"|(?P<signed>(?i:x-amz-(?:signature|credential|security-token))(?:=|%3[Dd]|\W{1,6}(?=\w)))[^\s&\"'\\<>]+"
    # A browser's session.
    r"|(?P<session>__Host-bucketscribe=)[^\s;\"'\\]+"
    # A header to the end of its line: as it is sent, in a dict, or as one of ASGI's pairs.
    r"|(?P<header>(?i:authorization|cookie)(?:[\"']\s*,\s*b?[\"']|[\\\"']*\s*[:=])\s*)[^\r\n]+"
)


def redact(text: str) -> str:
    """The text without what nobody may learn from it."""
    low = text.lower()
    # Nearly every value is harmless, and this tells it in a fraction of the time.
    if not (
        "bks_" in low
        or "bkt_" in low
        or "hf_" in low
        or "whsec_" in low
        or "eyj" in low
        or "/u/" in low
        or "x-amz-" in low
        or "__host-" in low
        or "authorization" in low
        or "cookie" in low
    ):
        return text
    return _SECRETS.sub(lambda found: (found[found.lastgroup] if found.lastgroup else "") + REDACTED, text)


def redacted(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A processor that takes secrets out of every value; it comes last, before the renderer."""
    for name, value in event.items():
        if value is None or isinstance(value, (bool, int, float)):
            continue
        if name.lower() in _SECRET_NAMES:
            event[name] = REDACTED
            continue
        text = value if isinstance(value, str) else repr(value)
        clean = redact(text)
        # A list or an object stays what it is, unless there is something in it.
        if clean != text:
            event[name] = clean
    return event


_console = structlog.dev.ConsoleRenderer(
    colors=False, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
)


def as_text(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """A renderer of text: no value ends the line, or moves a terminal's cursor."""
    line = _console(logger, method, event)
    if line.isprintable():
        return line
    return "\n    ".join(
        "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in part)
        for part in line.split("\n")
    )


def configure(settings: Settings) -> None:
    """Send every log line of this process to stderr in the settings' format."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redacted,
    ]
    renderer = structlog.processors.JSONRenderer() if settings.log_format == "json" else as_text
    structlog.configure(
        processors=[*shared, renderer],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    # Uvicorn has a handler of its own, which takes out nothing, and tells paths where ours tells routes.
    for name in ("uvicorn", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
    logging.getLogger("uvicorn").propagate = True
    logging.getLogger("uvicorn.access").propagate = False
