"""Everything a process of ours works with, put together from the settings. Connecting makes no request."""

from dataclasses import dataclass
from typing import Self

from .arrivals import Arrivals
from .bucket import Bucket
from .concatenation import Concatenation
from .deadletters import DeadLetters
from .inbox import Inbox
from .intake import Intake
from .limits import Limits
from .markers import Markers
from .online import Online
from .partials import Partials
from .presign import Presigner
from .queue import Queue
from .records import Records
from .renaming import Renaming
from .s3 import sdk_credentials
from .settings import Settings
from .transcriptions import Transcriptions
from .tus import TusUploads
from .uploads import Uploads
from .webhooks import Webhooks


@dataclass(frozen=True, slots=True)
class Service:
    """One bucket, one queue, and what we do with them."""

    settings: Settings
    bucket: Bucket
    queue: Queue
    records: Records
    markers: Markers
    presigner: Presigner
    transcriptions: Transcriptions
    renaming: Renaming
    limits: Limits
    intake: Intake
    uploads: Uploads
    tus: TusUploads
    concatenation: Concatenation
    inbox: Inbox
    online: Online
    arrivals: Arrivals
    dead_letters: DeadLetters
    webhooks: Webhooks

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """The service the settings describe. Raises ValueError where a needed one is missing."""
        return cls.of(settings, Bucket.connect(settings), Queue.connect(settings))

    @classmethod
    def of(cls, settings: Settings, bucket: Bucket, queue: Queue) -> Self:
        """The service on a given bucket and queue."""
        records = Records(bucket)
        markers = Markers(bucket)
        presigner = Presigner(
            settings.public_endpoint,
            settings.bucket,
            settings.region,
            settings.path_style,
            sdk_credentials(),
        )
        transcriptions = Transcriptions(settings, bucket, records, markers, queue)
        uploads = Uploads(settings, bucket, records, markers, transcriptions, presigner)
        limits = Limits(settings, bucket)
        intake = Intake(settings, bucket, records, markers, limits, presigner)
        partials = Partials(settings, bucket, records, markers, limits)
        letters = settings.dead_letters_url
        dead_letters = DeadLetters(transcriptions, Queue(queue.client, letters) if letters else None)
        inbox = Inbox(settings, bucket, uploads)
        arrivals = Arrivals(settings.bucket, uploads, inbox)
        return cls(
            settings,
            bucket,
            queue,
            records,
            markers,
            presigner,
            transcriptions,
            Renaming(bucket, records, transcriptions),
            limits,
            intake,
            uploads,
            TusUploads(settings, bucket, intake, uploads, partials),
            Concatenation(bucket, intake, uploads, partials),
            inbox,
            Online(settings, bucket, uploads, limits),
            arrivals,
            dead_letters,
            Webhooks(settings, bucket, records, markers),
        )
