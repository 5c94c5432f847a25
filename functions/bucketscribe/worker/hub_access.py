"""What can be had of the Hugging Face hub, and why something cannot.

Which account may have a gated model is told by the hub only when one of its files is asked for. Sources:
huggingface_hub's `hf_raise_for_status`, and the hub's API reference.
"""

import os
from collections.abc import Iterator
from enum import StrEnum
from urllib.parse import quote

from huggingface_hub import constants, get_session
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

ANSWER_SECONDS = 5.0


class Answer(StrEnum):
    """What the hub says to somebody who asks for a model."""

    GIVEN = "given"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    NO_ANSWER = "no answer"


def repository_of(model: str) -> str | None:
    """Where on the hub a Whisper model lies: by faster-whisper's table, or by its own name there."""
    from faster_whisper.utils import _MODELS  # type: ignore[import-untyped]

    repository = _MODELS.get(model, model)
    return str(repository) if "/" in repository else None


def token_of(setting: str | None) -> str | None:
    """The token there is: the setting's, or the hub's own variable."""
    return setting or os.environ.get("HF_TOKEN") or None


def ask(model: str, file: str, token: str | None) -> Answer:
    """Whether the hub would give us this file of a model. Takes a few seconds at most."""
    if constants.HF_HUB_OFFLINE:
        return Answer.NO_ANSWER
    url = f"{constants.ENDPOINT}/{quote(model)}/resolve/main/{quote(file)}"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        # The hub client's own session: it knows of proxies.
        answer = get_session().head(url, headers=headers, timeout=ANSWER_SECONDS, allow_redirects=False)
    except OSError:
        return Answer.NO_ANSWER
    status = answer.status_code
    if status in (401, 403):
        return Answer.REFUSED
    if status >= 500:
        return Answer.NO_ANSWER
    return Answer.UNKNOWN if status >= 400 else Answer.GIVEN


def licence(model: str, token: str | None) -> str:
    """What to do where the hub refuses a model."""
    accept = f"accept the licence at https://huggingface.co/{model}"
    if token:
        return f"{accept} with the account of BUCKETSCRIBE_HF_TOKEN, or set another token"
    return f"{accept} and set BUCKETSCRIBE_HF_TOKEN to a token of that account"


def explain(error: BaseException, model: str, token: str | None) -> str:
    """In a line, why a model could not be had, and what to do. What was caught on the way counts, too."""
    for cause in _chain(error):
        # A response is false where its status is an error.
        answer = cause.response if isinstance(cause, HfHubHTTPError) else None
        status = None if answer is None else answer.status_code
        if isinstance(cause, GatedRepoError) or status == 403:
            return f"The hub gives {model} to known accounts only: {licence(model, token)}."
        if isinstance(cause, RepositoryNotFoundError):
            return f"The hub knows no model {model}, or the token's account may not see it: check the name."
        if isinstance(cause, HfHubHTTPError) and status is not None:
            return f"The hub answered {status} for {model}: try again later."
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno is not None and cause.filename is not None:
            return f"{model} cannot be written: {cause.strerror} ({cause.filename})."
    for cause in _chain(error):
        if isinstance(cause, (ConnectionError, TimeoutError)) or "Connect" in type(cause).__name__:
            return (
                f"{model} cannot be fetched: {constants.ENDPOINT} does not answer. Try where it can be "
                "reached, and copy the models folder."
            )
    said = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return f"{model} cannot be fetched: {said}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__
