"""Every setting, in one place: environment variables with the prefix `BUCKETSCRIBE_`.

Credentials are not here: they come from the AWS SDK's own chain (environment, profile, role).
A value that makes no sense fails when the settings are read, before anything heavy is started.
"""

import base64
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from .options import LANGUAGES

MAX_OBJECT_BYTES = 5 * 1024**3
"""5 GiB: the largest recording we take, and the largest body S3 takes in one POST."""

JwtAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Asymmetric ones only: with a shared key, whoever can check a token could make one."""

Port = Annotated[int, Field(ge=1, le=65535)]


_LISTS = (
    *("auth", "oidc_algorithms", "allowed_origins", "allowed_models", "align_models"),
    *("url_hosts", "private_hosts"),
)


class Settings(BaseSettings):
    """What a process of ours needs to know. Immutable; read once at its start."""

    model_config = SettingsConfigDict(env_prefix="BUCKETSCRIBE_", frozen=True, env_ignore_empty=True)

    # Where we listen and keep things (laptop)
    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: Port = Field(8000, description="Port the API listens on.")
    data_dir: Path = Field(Path(".data"), description="Where `make up` keeps everything; made if missing.")
    s3_port: Port | None = Field(None, description="Port of the embedded S3 server; a free one unless set.")
    sqs_port: Port | None = Field(None, description="Port of the embedded SQS server; a free one unless set.")

    # Bucket and queue
    bucket: str = Field("bucketscribe", min_length=3, max_length=63, description="Name of the bucket.")
    region: str = Field("us-east-1", description="Region of bucket and queue.")
    s3_endpoint: str | None = Field(None, description="URL of the S3 server as we reach it; AWS unless set.")
    s3_public_endpoint: str | None = Field(
        None, description="S3 as clients reach it: a URL for signing only; `S3_ENDPOINT` unless set."
    )
    s3_path_style: bool | None = Field(
        None, description="Bucket in the path instead of the host name; true where `S3_ENDPOINT` is set."
    )
    sqs_endpoint: str | None = Field(None, description="URL of the SQS server; AWS unless set.")
    queue_url: str | None = Field(None, description="URL of the job queue.")
    dead_letters_url: str | None = Field(
        None,
        description="URL of the queue that takes messages nobody could take from the job queue, for the "
        "sweep to empty. On AWS a function of its own does that: leave it unset.",
    )
    secret: SecretStr | None = Field(
        None,
        min_length=16,
        description="Seals upload ids, upload tokens and sessions: what the API needs, and no worker or "
        "sweep. 16 characters or more, the same in every process.",
    )
    webhook_secret: SecretStr | None = Field(
        None,
        description="Signs webhooks, so that who receives them can check them: `whsec_` and 24 to 64 "
        "random bytes in base64. What the API needs before webhooks can be asked for, and the sweep to send "
        "them; a worker that has it does so at once.",
    )

    # Who may do what
    auth: Annotated[tuple[Literal["keys", "oidc"], ...], NoDecode] = Field(
        (),
        description="Ways to sign in, `keys`, `oidc` or both, separated by commas. None unless set: open "
        "mode, in which whoever is on this machine may do everything, and nobody else may reach it.",
    )
    oidc_issuer: str | None = Field(
        None, description="Issuer of the JSON Web Tokens one signs in with: its URL, exactly as in `iss`."
    )
    oidc_audience: str | None = Field(None, description="What those tokens must name as their audience.")
    oidc_owner_claim: str = Field(
        "sub",
        min_length=1,
        description="The claim that says who somebody is: one that nobody can choose or change.",
    )
    oidc_jwks_url: str | None = Field(
        None, description="URL of the issuer's keys; asked of its discovery document unless set."
    )
    oidc_algorithms: Annotated[tuple[JwtAlgorithm, ...], NoDecode] = Field(
        ("RS256", "ES256"), description="Algorithms those tokens may be signed by, separated by commas."
    )
    oidc_leeway_seconds: int = Field(
        30, ge=0, le=300, description="How far the issuer's clock and ours may be apart, in seconds."
    )
    upload_token_seconds: int = Field(
        3600, ge=60, le=86400, description="How long an upload token is good for, in seconds."
    )
    session_seconds: int = Field(
        43200, ge=60, le=2592000, description="How long a browser's session lasts, in seconds."
    )
    events_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="What an object store must send along with its notifications to `POST /events/s3`: 16 "
        "visible ASCII characters or more; there is no such route unless it is set.",
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Web origins that may call us, separated by commas; in open mode those of this machine "
        "always may, and `*` lets every page that a browser shows do everything.",
    )

    # Limits
    max_open_uploads: int | None = Field(
        None, ge=1, description="Uploads an owner may have open at once; 1,000 unless set, in open mode any."
    )
    max_daily_bytes: int | None = Field(
        None,
        ge=1,
        description="Bytes an owner may begin to upload in a day (UTC), in bytes; no limit unless set. An "
        "upload that declares no size counts as the largest.",
    )
    max_recording_hours: float = Field(
        24, gt=0, description="Length of the longest recording that is transcribed, in hours."
    )
    max_requests_per_second: float | None = Field(
        None,
        gt=0,
        description="Requests a second of one who is signed in, over ten seconds; 100 unless set, in open "
        "mode any. On a Lambda its gateway's limit counts instead.",
    )
    require_size: bool = Field(
        False,
        description="Whether an upload must declare `size` and `partSize` when it begins; by tus, "
        "`Upload-Length`.",
    )

    # Uploads
    max_upload_bytes: int = Field(
        MAX_OBJECT_BYTES, ge=1, le=MAX_OBJECT_BYTES, description="Largest recording accepted, in bytes."
    )
    upload_idle_seconds: int = Field(
        600, ge=4, description="An upload is ended when no part of it was finished for this long, in seconds."
    )
    url_expires_seconds: int = Field(
        3600, ge=1, le=604800, description="How long a presigned URL is good for, in seconds."
    )
    sweep_interval_seconds: float = Field(60, gt=0, description="Pause between two sweeps, in seconds.")
    url_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        ("*",),
        description="Hosts that recordings are fetched from, also where another redirects there: names, "
        "`*.example.org` or addresses, separated by commas; `*` for any.",
    )
    private_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="What may be asked although it is not public, for recordings and by webhooks: names, "
        "`*.example.org`, addresses or networks (`10.1.0.0/16`), separated by commas. None unless set.",
    )

    # Transcribing
    engine: Literal["faster-whisper", "whisperx"] = Field(
        "faster-whisper", description="What turns audio into words: `faster-whisper` or `whisperx`."
    )
    model: str = Field("base", description="Model used unless a transcription asks for another.")
    allowed_models: Annotated[tuple[str, ...], NoDecode] = Field(
        ("base", "tiny.en"), description="Models a transcription may ask for, separated by commas."
    )
    models_dir: Path | None = Field(
        None, description="Folder of models, looked into before any hub; `models` in `DATA_DIR` unless set."
    )
    models_url: str | None = Field(
        None,
        description="`s3://bucket/prefix` from which a worker, when it starts, gets what it lacks there.",
    )
    device: Literal["cpu", "cuda", "auto"] = Field("auto", description="Where the engine runs.")
    compute_type: Literal["default", "int8", "int8_float16", "float16", "bfloat16", "float32"] = Field(
        "default",
        description="Numbers a model computes with; `float16` on a GPU, `int8` on a CPU unless set.",
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Stretches of up to 30 s of speech transcribed at once; 16 on a GPU, 2 on a CPU unless "
        "set. Halved when memory runs out.",
    )
    align_models: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Alignment models for languages that have none, or another one: `language=name` or "
        "`language=folder`, separated by commas.",
    )
    diarize_model: str = Field(
        "pyannote/speaker-diarization-community-1",
        min_length=1,
        description="What tells speakers apart: a name of the Hugging Face hub, or a folder.",
    )
    hf_token: SecretStr | None = Field(
        None, description="Token for gated models of the Hugging Face hub; `HF_TOKEN` unless set."
    )
    window_seconds: int = Field(
        600, ge=5, description="Length of a window, about, in seconds: what a worker that dies loses at most."
    )
    heartbeat_seconds: float = Field(
        3, gt=0, description="How often a worker renews its lease and looks for a cancel, in seconds."
    )
    lease_seconds: int = Field(
        30, ge=1, description="A worker that was silent for this long has lost its job, in seconds."
    )
    max_attempts: int = Field(3, ge=1, description="Leases that may end without progress before a run fails.")
    job_look_seconds: int = Field(
        300, ge=1, description="The sweep looks at a job that nobody looked at for this long, in seconds."
    )
    stop_seconds: float = Field(
        20,
        ge=0,
        description="A worker told to stop saves its window if that takes no longer, in seconds.",
    )
    worker_idle_exit_seconds: float | None = Field(
        None, gt=0, description="A worker without work for this long ends, in seconds; never unless set."
    )
    worker_port: Port | None = Field(
        None, description="Port of a worker's health and metrics; none unless set."
    )
    sweep_port: Port | None = Field(None, description="Port of the sweep's metrics; none unless set.")
    worker_health_url: str | None = Field(
        None, description="URL `/health/ready` asks for a worker's health; not asked unless set."
    )
    log_format: Literal["text", "json"] = Field("text", description="How log lines look.")

    @model_validator(mode="before")
    @classmethod
    def _split_lists(cls, values: object) -> object:
        if isinstance(values, dict):
            for name in _LISTS:
                if isinstance(text := values.get(name), str):
                    named = tuple(part.strip() for part in text.split(",") if part.strip())
                    # What is set and names nothing is a mistake, and must not open a door.
                    values[name] = named or (text,)
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.lease_seconds < 3 * self.heartbeat_seconds:
            raise ValueError("lease_seconds must be at least three times heartbeat_seconds")
        if self.model not in self.allowed_models:
            raise ValueError(f"model {self.model!r} is not among allowed_models {list(self.allowed_models)}")
        for named in self.align_models:
            language, _, model = named.partition("=")
            if language not in LANGUAGES or not model:
                raise ValueError(f"align_models: {named!r} is not a language's code, = and a model")
        if self.models_url is not None and not re.fullmatch(r"s3://[^/?#]+(/[^?#]*)?", self.models_url):
            raise ValueError("models_url must be s3://bucket/prefix")
        if self.dead_letters_url is not None and self.dead_letters_url == self.queue_url:
            raise ValueError("dead_letters_url is the job queue's: every job in it would be failed")
        if self.webhook_secret is not None and not _is_webhook_secret(self.webhook_secret.get_secret_value()):
            raise ValueError("webhook_secret must be whsec_ and the base64 of 24 to 64 random bytes")
        for name in ("url_hosts", "private_hosts"):
            for entry in getattr(self, name):
                if not re.fullmatch(r"\*|(\*\.)?[0-9A-Za-z._-]+|[0-9A-Fa-f.:]+(/[0-9]{1,3})?", entry):
                    raise ValueError(f"{name}: {entry!r} is no name, address or network")
        token = self.events_token
        if token is not None and not re.fullmatch("[!-~]+", token.get_secret_value()):
            raise ValueError("events_token may have visible ASCII characters only: it is sent in a header")
        if "oidc" in self.auth and not (self.oidc_issuer and self.oidc_audience):
            raise ValueError("auth names oidc: set oidc_issuer and oidc_audience, too")
        for name in ("oidc_issuer", "oidc_jwks_url"):
            if (url := getattr(self, name)) is not None and not _is_private(url):
                raise ValueError(f"{name} must be an https URL: who can change its answers can be anybody")
        if "*" in self.allowed_origins and not self.open_mode:
            raise ValueError("allowed_origins may be * in open mode only: name the origins")
        return self

    @property
    def open_mode(self) -> bool:
        """Whether nobody need sign in: then only this machine may reach the API."""
        return not self.auth

    @property
    def open_uploads_limit(self) -> int | None:
        """Uploads an owner may have open at once; None for any."""
        return self.max_open_uploads or (None if self.open_mode else 1000)

    @property
    def requests_limit(self) -> float | None:
        """Requests a second that a principal may make; None for any."""
        return self.max_requests_per_second or (None if self.open_mode else 100)

    @property
    def models_folder(self) -> Path:
        """Where models lie."""
        return self.models_dir or self.data_dir / "models"

    @property
    def public_endpoint(self) -> str | None:
        """The S3 URL that clients use, or None for AWS."""
        return self.s3_public_endpoint or self.s3_endpoint

    @property
    def path_style(self) -> bool:
        """Whether the bucket's name goes into the path of S3 URLs."""
        return self.s3_path_style if self.s3_path_style is not None else self.s3_endpoint is not None

    @property
    def sealing_secret(self) -> bytes:
        """The secret's bytes. Raises ValueError where none is set."""
        if self.secret is None:
            raise ValueError("BUCKETSCRIBE_SECRET is not set: give every process of the API the same one")
        return self.secret.get_secret_value().encode()


def _is_webhook_secret(text: str) -> bool:
    """Whether it is one of Standard Webhooks, which may be written without its prefix."""
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        return False
    return 24 <= len(key) <= 64


def _is_private(url: str) -> bool:
    """Whether nobody on the way can change what a URL answers: by TLS, or as there is no way."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    on_this_machine = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    return bool(parts.hostname) and (parts.scheme == "https" or on_this_machine)
