"""Whether the Hugging Face hub can be asked, told at once.

Its client tries again for 23 s for each of a model's files, in which a run can neither go on nor be canceled.
"""

from huggingface_hub import constants, get_session

_ANSWER_SECONDS = 10


class HubUnreachable(OSError):
    """The hub does not answer."""


def reach() -> None:
    """Raise `HubUnreachable` unless the hub answers, whatever it says."""
    try:
        get_session().head(constants.ENDPOINT, timeout=_ANSWER_SECONDS)
    except OSError as error:  # all of the client's are
        raise HubUnreachable(f"{constants.ENDPOINT} cannot be reached") from error
