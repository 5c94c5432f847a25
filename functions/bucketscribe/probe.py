"""What a bucket and a queue must be able to do for us, tried on the real ones: `bucketscribe doctor`.

Everything happens under one key prefix of its own, `probe/{id}/`, and is removed at the end, also when it is
interrupted; what a process that was killed has left behind is removed by a later one. Each finding says what
was seen and what that means, or what covers for what is missing. Rules: the S3 API reference, "Conditional
writes", "Authenticating Requests: Using Query Parameters", "Cross-origin resource sharing"; the Fetch
standard for CORS.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import urllib3

from .bucket import Bucket, Conflict, PartsRefused, StorageError, UploadGone, error_code
from .presign import Presigner
from .queue import Queue

RIVALS = 8
ROUNDS = 3
"""As often as that many threads write at once: a race that is lost only now and then shows."""

CLOCK_SECONDS = 60
"""Signatures are made by our clock and judged by the bucket's; S3 takes a quarter of an hour."""

LEFT_BEHIND = timedelta(hours=1)
"""No examination takes so long: what is older is nobody's."""

HTTP = urllib3.Timeout(connect=5, read=20)
BODY = b"bucketscribe doctor was here\n"


class Verdict(StrEnum):
    """What a look has found."""

    OK = "ok"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what was `seen`, and what that `means`. Some can be done without."""

    name: str
    verdict: Verdict
    seen: str
    means: str = ""
    needed: bool = True

    @property
    def grave(self) -> bool:
        """Whether it has to be put right."""
        return self.needed and self.verdict is Verdict.MISSING


def found(name: str, good: bool, seen: str, *, otherwise: str, needed: bool = True) -> Finding:
    """A finding that is ok, or else means something."""
    if good:
        return Finding(name, Verdict.OK, seen, needed=needed)
    return Finding(name, Verdict.MISSING, seen, otherwise, needed)


class Probe:
    """A bucket under examination. A context manager: at its end nothing of it is left in the bucket."""

    def __init__(self, bucket: Bucket, presigner: Presigner, origins: Sequence[str], id: str) -> None:
        """Take the web origins that must be able to upload, and an id no other probe has."""
        self._bucket = bucket
        self._presigner = presigner
        self._origins = origins
        self._prefix = f"probe/{id}/"
        self._http = urllib3.PoolManager(maxsize=2, retries=False, timeout=HTTP)
        self._uploads: list[tuple[str, str]] = []
        self._full = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for key, upload_id in self._uploads:
            with suppress(*StorageError):
                self._bucket.abort_uploads(key, upload_id)
        with suppress(*StorageError):
            self._bucket.delete_all(self._prefix)
        self._http.clear()

    def findings(self) -> Iterator[Finding]:
        """Each finding as it is made. If the bucket does not answer at all, that is the only one."""
        reachable = list(self._look("bucket", self._reach))
        yield from reachable
        if any(finding.grave for finding in reachable):
            yield Finding("everything else", Verdict.UNKNOWN, "not tried")
            return
        for name, look in (
            ("conditional create", self._create),
            ("conditional replace", self._replace),
            ("failed condition", self._conditions),
            ("list after write", self._listing),
            ("ranged read", self._range),
            ("multipart", self._multipart),
            ("multipart abort", self._abort),
            ("signed PUT", self._signed),
            ("anonymous access", self._anonymous),
            ("CORS", self._cors),
            ("lifecycle", self._lifecycle),
            ("clock", self._clock),
        ):
            yield from self._look(name, look)
            if self._full:
                yield Finding("everything else", Verdict.UNKNOWN, "not tried")
                break
        with suppress(*StorageError):
            self._tidy()
        yield self._free_space()

    def _free_space(self) -> Finding:
        """S3 has no request that tells how much there is; only that there is none can be found out."""
        if self._full:
            return Finding(
                "free space",
                Verdict.MISSING,
                "none: the disk is full, or the quota used up",
                "free some, as by `bucketscribe purge`, or raise the quota: nothing can be uploaded or done "
                "till then, and nothing is lost",
            )
        return Finding(
            "free space",
            Verdict.UNKNOWN,
            "some; S3 has no request that tells how much",
            "a full bucket refuses parts: uploads wait and can go on once there is space",
            needed=False,
        )

    def _tidy(self) -> None:
        """Remove what others left behind."""
        old = self._bucket.now() - LEFT_BEHIND
        for entry in list(self._bucket.listing("probe/")):
            if entry.modified < old:
                self._bucket.delete(entry.key)
        pages = self._bucket.client.list_multipart_uploads(Bucket=self._bucket.name, Prefix="probe/")
        for upload in pages.get("Uploads", []):
            if upload["Initiated"] < old:
                self._bucket.abort_uploads(upload["Key"], upload["UploadId"])

    def _look(self, name: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
        """What one look finds; a refusal in its middle is a finding, too."""
        try:
            yield from look()
        except (*StorageError, Conflict, KeyError, PartsRefused, UploadGone) as error:
            self._full = self._full or self._bucket.is_full(error)
            if self._full:
                yield Finding(name, Verdict.UNKNOWN, _brief(error), "the bucket is full: see free space")
            else:
                yield Finding(name, Verdict.MISSING, _brief(error), "nothing works without it")
        except urllib3.exceptions.HTTPError as error:
            seen = f"{self._presigner.url('')}: {_brief(error)}"
            yield Finding(name, Verdict.MISSING, seen, "clients cannot reach the bucket there")

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def _reach(self) -> Iterator[Finding]:
        try:
            self._bucket.now()
        except StorageError as error:
            means = (
                "there is no such bucket: make it, or set BUCKETSCRIBE_BUCKET"
                if error_code(error)[0] == 404
                else "see BUCKETSCRIBE_S3_ENDPOINT, BUCKETSCRIBE_BUCKET and the AWS credentials"
            )
            yield Finding("bucket", Verdict.MISSING, _brief(error), means)
        else:
            yield Finding("bucket", Verdict.OK, f"{self._bucket.name} answers")

    def _create(self) -> Iterator[Finding]:
        def rival(key: str, number: int) -> bool:
            try:
                self._bucket.create(key, b"%d" % number)
            except Conflict:
                return False
            return True

        keys = [self._key(f"create-{number}") for number in range(ROUNDS)]
        yield self._race("conditional create", [self._winners(rival, key) for key in keys])

    def _replace(self) -> Iterator[Finding]:
        key = self._key("replace")
        etag = self._bucket.put(key, b"first").etag

        def rival(key: str, number: int) -> bool:
            try:
                self._bucket.replace(key, b"%d %s" % (number, etag.encode()), etag)
            except Conflict:
                return False
            return True

        winners = []
        for _ in range(ROUNDS):
            winners.append(self._winners(rival, key))
            known = self._bucket.find(key)
            etag = known.etag if known else etag
        yield self._race("conditional replace", winners)

    def _winners(self, rival: Callable[[str, int], bool], key: str) -> int:
        with ThreadPoolExecutor(RIVALS) as threads:
            return sum(threads.map(lambda number: rival(key, number), range(RIVALS)))

    def _race(self, name: str, winners: Sequence[int]) -> Finding:
        return found(
            name,
            all(count == 1 for count in winners),
            f"{RIVALS} writers at once, {ROUNDS} times: {', '.join(map(str, winners))} succeeded",
            otherwise="these writes are our only lock: transcriptions would be lost or done twice",
        )

    def _conditions(self) -> Iterator[Finding]:
        key = self._key("conditions")
        self._bucket.put(key, BODY)
        statuses = [
            self._status(key, IfNoneMatch="*"),
            self._status(key, IfMatch='"00000000000000000000000000000000"'),
            self._status(self._key("nothing"), IfMatch='"00000000000000000000000000000000"'),
        ]
        yield found(
            "failed condition",
            all(status in (404, 409, 412) for status in statuses),
            "taken {}, changed {}, gone {}".format(*statuses),
            otherwise="404, 409 or 412 is expected: a lost race would not be noticed",
        )

    def _status(self, key: str, **condition: str) -> int:
        try:
            answer = self._bucket.client.put_object(
                Bucket=self._bucket.name,
                Key=key,
                Body=BODY,
                **condition,  # type: ignore[arg-type]
            )
        except StorageError as error:
            return error_code(error)[0]
        return answer["ResponseMetadata"]["HTTPStatusCode"]

    def _listing(self) -> Iterator[Finding]:
        prefix = self._key("list/")
        keys = [f"{prefix}{number}" for number in range(3)]
        for key in reversed(keys):
            self._bucket.put(key, BODY)
        written = [entry.key for entry in self._bucket.listing(prefix)]
        self._bucket.delete(keys[1])
        deleted = [entry.key for entry in self._bucket.listing(prefix)]
        yield found(
            "list after write",
            written == keys and deleted == [keys[0], keys[2]],
            f"{len(written)} of 3 listed after writing, {len(deleted)} of 2 after a delete",
            otherwise="the sweep and every list go by what is listed",
        )

    def _range(self) -> Iterator[Finding]:
        key = self._key("range")
        etag = self._bucket.put(key, BODY).etag
        part = self._bucket.read(key, 13, 19, etag)
        self._bucket.put(key, BODY.upper())
        try:
            self._bucket.read(key, 13, 19, etag)
            refused = False
        except Conflict:
            refused = True
        yield found(
            "ranged read",
            part == BODY[13:19] and refused,
            f"{len(part)} of 6 bytes; after a change {'refused' if refused else 'read all the same'}",
            otherwise="a worker reads recordings so: it could take two versions for one",
        )

    def _multipart(self) -> Iterator[Finding]:
        key = self._key("multipart")
        upload_id = self._begin(key)
        url = self._part_url(key, upload_id)
        etag = self._http.request("PUT", url, body=BODY).headers.get("ETag", "")
        listed = self._listed(key, upload_id)
        parts, _ = self._bucket.list_parts(key, upload_id) or ([], None)
        self._bucket.complete_upload(key, upload_id, [(1, etag)])
        whole = self._bucket.find(key)
        yield found(
            "multipart",
            [part.size for part in parts] == [len(BODY)] and whole is not None and whole.size == len(BODY),
            f"{len(parts)} of 1 part listed, {whole.size if whole else 0} of {len(BODY)} bytes completed",
            otherwise="every upload is one",
        )
        yield listed

    def _abort(self) -> Iterator[Finding]:
        aborted = self._key("aborted")
        upload_id = self._begin(aborted)
        self._bucket.abort_uploads(aborted, upload_id)
        gone = self._bucket.list_parts(aborted, upload_id) is None
        yield found(
            "multipart abort",
            gone,
            "nothing is left of it" if gone else "it is still there",
            otherwise="what idle uploads have sent is never given back",
        )

    def _listed(self, key: str, upload_id: str) -> Finding:
        means = "an upload whose beginning was interrupted stays until the server's own clean-up"
        try:
            pages = self._bucket.client.list_multipart_uploads(Bucket=self._bucket.name, Prefix=key)
        except StorageError as error:
            return Finding("multipart list", Verdict.UNKNOWN, _brief(error), means, needed=False)
        listed = upload_id in [entry["UploadId"] for entry in pages.get("Uploads", [])]
        seen = "an upload is listed by its key" if listed else "an upload is not listed by its key"
        return found("multipart list", listed, seen, otherwise=means, needed=False)

    def _signed(self) -> Iterator[Finding]:
        key = self._key("signed")
        upload_id = self._begin(key)
        good = self._put(self._part_url(key, upload_id))
        yield found("signed PUT", good == 200, _status(good), otherwise="nothing can be uploaded")
        parts = urlsplit(self._part_url(key, upload_id))
        query = dict(parse_qsl(parts.query)) | {"partNumber": "2"}
        tampered = self._put(parts._replace(query=urlencode(query)).geturl())
        yield self._refusal(
            "tampered URL",
            tampered,
            "signatures are not checked: whoever reaches the bucket reads and writes it",
        )
        expired = self._put(self._part_url(key, upload_id, age=timedelta(hours=2)))
        yield self._refusal("expired URL", expired, "a URL that leaks is good for ever")
        longer = self._put(self._part_url(key, upload_id, length=len(BODY) - 1))
        yield self._refusal(
            "other length",
            longer,
            "a client can send more than it said; the size is judged again once the upload is complete",
            needed=False,
        )

    def _anonymous(self) -> Iterator[Finding]:
        key = self._key("anonymous")
        self._bucket.put(key, BODY)
        url = self._presigner.url(key)
        read = self._http.request("GET", url).status
        wrote = self._http.request("PUT", url, body=BODY).status
        yield self._refusal("anonymous read", read, "anyone may read every recording")
        yield self._refusal("anonymous write", wrote, "anyone may write into the bucket")

    def _cors(self) -> Iterator[Finding]:
        key = self._key("cors")
        url = self._part_url(key, self._begin(key))
        for origin in self._origins:
            asked = self._http.request(
                "OPTIONS",
                url,
                headers={
                    "Origin": origin,
                    "Access-Control-Request-Method": "PUT",
                    "Access-Control-Request-Headers": "content-type",
                },
            )
            answered = self._http.request("PUT", url, body=BODY, headers={"Origin": origin})
            allowed = (
                all(
                    200 <= response.status < 300
                    and response.headers.get("Access-Control-Allow-Origin") in (origin, "*")
                    for response in (asked, answered)
                )
                and bool(_named(asked, "Allow-Methods") & {"put", "*"})
                and bool(_named(asked, "Allow-Headers") & {"content-type", "*"})
            )
            exposed = _named(answered, "Expose-Headers")
            seen = f"{origin} {'may' if allowed else 'may not'} send parts and {{}} read their ETag"
            readable = bool(exposed & {"etag", "*"})
            yield found(
                "CORS",
                allowed and readable,
                seen.format("may" if readable else "may not"),
                otherwise="web pages of this origin cannot upload; the command line can",
            )

    def _lifecycle(self) -> Iterator[Finding]:
        try:
            answer = self._bucket.client.get_bucket_lifecycle_configuration(Bucket=self._bucket.name)
        except StorageError as error:
            rules = []
            seen = error_code(error)[1] or _brief(error)
            if error_code(error)[0] != 404:
                yield Finding("lifecycle", Verdict.UNKNOWN, seen, needed=False)
                return
        else:
            rules = [
                rule
                for rule in answer.get("Rules", [])
                if rule["Status"] == "Enabled" and "AbortIncompleteMultipartUpload" in rule
            ]
            seen = "a rule aborts old uploads" if rules else "no rule aborts old uploads"
        yield found(
            "lifecycle",
            bool(rules),
            seen,
            otherwise="the sweep ends idle uploads; a rule would do so where no sweep runs",
            needed=False,
        )

    def _clock(self) -> Iterator[Finding]:
        yield clock("clock", self._bucket.now(), datetime.now(UTC))

    def _begin(self, key: str) -> str:
        upload_id, _ = self._bucket.begin_upload(key, "application/octet-stream")
        self._uploads.append((key, upload_id))
        return upload_id

    def _part_url(
        self, key: str, upload_id: str, *, length: int = len(BODY), age: timedelta = timedelta()
    ) -> str:
        """Signed in the bucket's time, so that only what is tried is wrong."""
        return self._presigner.part(
            key, upload_id, 1, expires_seconds=60, now=self._bucket.now() - age, content_length=length
        )

    def _put(self, url: str) -> int:
        return self._http.request("PUT", url, body=BODY).status

    def _refusal(self, name: str, status: int, means: str, needed: bool = True) -> Finding:
        if 300 <= status < 400 or status >= 500:
            return Finding(name, Verdict.UNKNOWN, f"answered with {status}", needed=needed)
        return found(name, status >= 400, _status(status), otherwise=means, needed=needed)


def probe_queue(queue: Queue) -> Iterator[Finding]:
    """Look at the queue without touching its messages: they are somebody's work."""
    try:
        count = queue.count()
    except StorageError as error:
        yield Finding(
            "queue",
            Verdict.MISSING,
            _brief(error),
            "workers look into the bucket themselves, every minute or so: slower, but nothing is lost",
            needed=False,
        )
        return
    yield Finding("queue", Verdict.OK, f"{count} messages waiting or in flight")
    yield Finding(
        "queue messages",
        Verdict.UNKNOWN,
        "sending and receiving is not tried on a queue in use",
        "a job whose message is lost is found by the sweep",
        needed=False,
    )


def probe_dead_letters(queue: Queue, letters: Queue | None) -> Iterator[Finding]:
    """Look where messages go that nobody can take from the queue.

    `letters` is where the sweep looks for them; without it that is a function's business, as on AWS.
    """
    name = "dead letters"
    try:
        policy = queue.redrive_policy()
        waiting = None if letters is None else letters.count()
    except StorageError as error:
        yield Finding(name, Verdict.UNKNOWN, _brief(error), needed=False)
        return
    if policy is None:
        yield Finding(
            name,
            Verdict.MISSING,
            "the queue puts no message aside",
            "one that nobody can take comes back to the workers for days: give the queue a redrive policy",
            needed=False,
        )
        return
    seen = f"put aside as {policy.target} when received {policy.receives} times"
    if letters is None:
        means = (
            "emptied by a function on AWS; elsewhere by the sweep, if BUCKETSCRIBE_DEAD_LETTERS_URL is set"
        )
        yield Finding(name, Verdict.UNKNOWN, seen, means, needed=False)
        return
    same = letters.url.rpartition("/")[2] == policy.target
    yield found(
        name,
        same,
        f"{seen}; {waiting} wait there" if same else f"{seen}; the sweep looks into {letters.url}",
        otherwise="BUCKETSCRIBE_DEAD_LETTERS_URL names another queue: what nobody can take stays queued",
        needed=False,
    )


def clock(name: str, theirs: datetime, ours: datetime) -> Finding:
    """Two clocks side by side; `theirs` is told in whole seconds. Ours need not be the API's."""
    apart = (theirs - ours).total_seconds()
    seen = (
        "the same within 2 s"
        if abs(apart) < 2
        else f"{abs(apart):.0f} s {'ahead' if apart > 0 else 'behind'}"
    )
    return found(
        name,
        abs(apart) <= CLOCK_SECONDS,
        seen,
        otherwise="URLs are signed by the API's clock and judged by the bucket's: have both set by NTP",
        needed=False,
    )


def _named(response: urllib3.BaseHTTPResponse, what: str) -> set[str]:
    """The names in one of a response's lists for CORS, in lower case."""
    return {name.strip().lower() for name in response.headers.get(f"Access-Control-{what}", "").split(",")}


def _status(status: int) -> str:
    return f"{'accepted' if status < 300 else 'refused'} with {status}"


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
