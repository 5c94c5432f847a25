"""What can go wrong for a caller, as one small family.

ClientError                 has a stable `code`; its text is one line, `code: what happened`
├── ServerProblem           the API refused (RFC 9457): its status, code and document
├── BucketRefused           the bucket refused a part or a transcript
├── UploadFailed            the recording itself is the trouble: empty, changed, unreadable
└── Unreachable             nobody answered, however often we asked
"""

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Base of all that the client raises on purpose."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class ServerProblem(ClientError):
    """The API's own refusal. `document` is the whole problem document, empty if there was none."""

    def __init__(self, status: int, code: str, detail: str, document: Mapping[str, Any]) -> None:
        super().__init__(code, detail)
        self.status = status
        self.document = document


class BucketRefused(ClientError):
    """The bucket's refusal. `reason` is S3's own error code, such as `AccessDenied`; `full`, its meaning."""

    def __init__(self, status: int, reason: str, what: str, *, full: bool = False) -> None:
        said = f"{status} {reason}".rstrip()
        if full:
            why = (
                f"The bucket takes no more ({said}, for {what}): its disk is full, or its quota used up. "
                "Ask whoever runs it to free space."
            )
        else:
            hint = " Its disk may be full." if (status, reason) == (500, "InternalError") else ""
            why = f"The bucket refused {what}: {said}.{hint}"
        super().__init__("storage_full" if full else "bucket_refused", why)
        self.status = status
        self.reason = reason
        self.full = full


class UploadFailed(ClientError):
    """It cannot be sent: `not_a_file`, `empty_file`, `file_changed`, `file_unreadable` or `too_large`."""


class Unreachable(ClientError):
    """No answer, or none that could be read to its end."""

    def __init__(self, server: str, reason: str) -> None:
        super().__init__("unreachable", f"{server} does not answer: {reason}.")
        self.server = server
        self.reason = reason
