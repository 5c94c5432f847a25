"""The Python client: upload recordings, follow their transcriptions, fetch their transcripts."""

from .backoff import Backoff
from .client import Client
from .errors import BucketRefused, ClientError, ServerProblem, Unreachable, UploadFailed
from .model import Failure, Health, Note, Page, Progress, Transcription
from .resume import UploadStore
from .transfer import UploadProgress

__all__ = [
    "Backoff",
    "BucketRefused",
    "Client",
    "ClientError",
    "Failure",
    "Health",
    "Note",
    "Page",
    "Progress",
    "ServerProblem",
    "Transcription",
    "Unreachable",
    "UploadFailed",
    "UploadProgress",
    "UploadStore",
]
