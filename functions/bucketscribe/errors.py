"""The problems a user can meet: their codes, statuses and what to do next, in one table.

Raised as `Problem` anywhere in the domain; the API turns them into RFC 9457 documents. A transcription
that failed carries one of the same codes in its record (`FAILURES`).
"""

from dataclasses import dataclass, field
from typing import Any

PROBLEMS: dict[str, tuple[int, str]] = {
    # code: (HTTP status, title)
    "invalid_request": (422, "The request is not of the form this route takes"),
    "unknown_option": (422, "There is no such option"),
    "invalid_option": (422, "An option has a value that is not allowed"),
    "size_required": (422, "The size must be declared"),
    "invalid_part_number": (422, "There is no such part"),
    "answer_too_large": (422, "The answer would be too large"),
    "not_transcribable": (422, "The recording cannot be transcribed"),
    "invalid_cursor": (422, "The cursor was not made by this list"),
    "invalid_form": (400, "The form cannot be used"),
    "unsupported_extension": (400, "A file of this name is not a recording"),
    "unsupported_media": (415, "This is not a recording we can transcribe"),
    "too_large": (413, "The recording is too large"),
    "sign_in_required": (401, "Nobody is signed in"),
    "bad_credentials": (401, "These credentials are not known, or no longer"),
    "credentials_expired": (401, "These credentials have expired"),
    "scope_missing": (403, "These credentials do not allow that"),
    "foreign_origin": (403, "A page of another site asked"),
    "this_machine_only": (403, "Only this machine may ask"),
    "not_yours": (403, "This key is not yours"),
    "no_such_upload": (404, "There is no such upload"),
    "no_such_transcription": (404, "There is no such transcription"),
    "not_in_inbox": (404, "There is no such object in the inbox"),
    "no_such_route": (404, "There is nothing at this address"),
    "page_not_built": (404, "There is no page here"),
    "method_not_allowed": (405, "This address does not take this method"),
    "body_too_large": (413, "The request is too large"),
    "upload_expired": (410, "The upload was idle for too long and has ended"),
    "no_longer_kept": (410, "It is no longer kept here"),
    "invalid_tus_request": (400, "The request is not as tus wants it"),
    "invalid_upload_metadata": (400, "Upload-Metadata cannot be read"),
    "checksum_unsupported": (400, "There is no such checksum here"),
    "checksum_mismatch": (460, "The bytes are not those of the checksum"),
    "invalid_concatenation": (400, "These uploads cannot be put together"),
    "not_appendable": (403, "Nothing can be appended to this upload"),
    "offset_mismatch": (409, "The upload is not where the request takes it to be"),
    "wrong_tus_version": (412, "This version of tus is not spoken here"),
    "wrong_content_type": (415, "A body of another type is wanted"),
    "upload_locked": (423, "Another request is writing to this upload"),
    "invalid_part": (400, "The parts are not those the bucket holds"),
    "not_ready": (409, "The transcript is not ready"),
    "not_possible": (409, "That is not possible in this state"),
    "recording_changed": (409, "The recording was changed after it was accepted"),
    "too_many_requests": (429, "Too many requests"),
    "too_many_uploads": (429, "Too many uploads are open"),
    "daily_limit_reached": (429, "Too much was uploaded today"),
    # Not 408: clients of tus take every other 4xx for an end.
    "body_stalled": (503, "The rest of the body did not come"),
    "begin_lost": (503, "The upload took too long to begin"),
    "busy": (503, "Too much at once"),
    "issuer_unavailable": (503, "Tokens cannot be checked"),
    "storage_unavailable": (503, "The object store does not answer"),
    "storage_full": (507, "The object store takes no more"),
    "takes_longer": (504, "The transcript takes longer than an answer may"),
    "transcription_failed": (500, "The transcription failed"),
    "internal": (500, "Something went wrong on our side"),
}

FAILURES: dict[str, str] = {
    # code in a failed record: what happened
    "unsupported_media": "The object's first bytes are not those of a recording.",
    "too_large": "The object is larger than the limit.",
    "fetch_failed": "The recording cannot be fetched from its URL.",
    "fetch_refused": "The recording's URL, or where it redirects to, may not be asked.",
    "upload_lost": "The bucket lost the upload before it was finished.",
    "no_audio": "The recording has no sound track.",
    "too_long": "The recording is longer than the limit.",
    "undecodable": "The recording cannot be decoded.",
    "recording_changed": "The recording was changed after it was accepted.",
    "recording_unreadable": "The bucket does not let the worker read the recording.",
    "recording_lost": "The recording is no longer in the bucket.",
    "model_unavailable": "The model cannot be loaded.",
    "engine_failed": "The engine failed.",
    "out_of_memory": "The worker's device has too little memory for this model.",
    "attempts_exhausted": "Workers died on this recording, one after another.",
    "never_started": "Workers were handed this job several times, and none could take it. Retry it.",
}


@dataclass(slots=True)
class Problem(Exception):
    """A refusal with a stable `code` of `PROBLEMS` and a sentence that says what to do next.

    `extra` becomes further members of the RFC 9457 document.
    """

    code: str
    detail: str
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Exception.__init__(self, f"{self.code}: {self.detail}")

    @property
    def status(self) -> int:
        """The HTTP status of this problem."""
        return PROBLEMS[self.code][0]

    def document(self) -> dict[str, Any]:
        """The RFC 9457 document. Its text stands again in `error` and `message`, where Uppy looks for it."""
        status, title = PROBLEMS[self.code]
        return {
            "type": f"urn:bucketscribe:problem:{self.code}",
            "title": title,
            "status": status,
            "detail": self.detail,
            "code": self.code,
            "error": self.detail,
            "message": self.detail,
            **self.extra,
        }
