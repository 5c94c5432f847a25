"""What a caller may ask for when an upload begins: the options of a transcription and facts of the file.

Uppy sends every value as a string and sends empty ones too, so "true" and "123" are understood and an
empty value counts as absent. Whatever is not known is refused by name: a misspelt option that is ignored
costs its owner an hour of waiting for the wrong transcript. Keys beginning with `x-` are free for callers.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from .errors import Problem

if TYPE_CHECKING:
    from .settings import Settings

LANGUAGES = tuple(
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht "
    "hu hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl "
    "ps pt ro ru sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh".split()
)
"""The languages Whisper knows, as in its tokenizer."""


def _known_language(value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("a language code such as en, or auto")
    code = value.strip().lower()
    if code == "auto":
        return None
    if code not in LANGUAGES:
        raise ValueError(f"auto, or one of {', '.join(LANGUAGES)}")
    return code


def _web_address(text: str) -> str:
    # Not at the start: who completes a command line needs the languages, and no way into the web.
    from .public_addresses import web_address

    return web_address(text).url


class Options(BaseModel):
    """How a recording is to be transcribed."""

    model_config = ConfigDict(frozen=True, extra="allow")

    language: Annotated[str | None, BeforeValidator(_known_language)] = Field(
        None, description="Language code, or `auto`.", examples=["en"]
    )
    task: Literal["transcribe", "translate"] = Field("transcribe", description="`translate` is into English.")
    model: str | None = Field(None, description="One of the server's allowed models.", examples=["base"])
    diarize: bool = Field(False, description="Tell speakers apart, where the engine can.")
    min_speakers: int | None = Field(None, ge=1, le=50)
    max_speakers: int | None = Field(None, ge=1, le=50)
    word_timestamps: bool = Field(True, description="Times for each word.")
    initial_prompt: str | None = Field(None, max_length=2000, description="Text that sets style and names.")
    hotwords: str | None = Field(None, max_length=2000, description="Words to expect.")
    webhook_url: Annotated[str, AfterValidator(_web_address)] | None = Field(
        None,
        max_length=2000,
        description="Is told of the end, by Standard Webhooks.",
        examples=["https://example.com/hooks/transcripts"],
    )


_KeptName = Annotated[str, Field(max_length=100)]
_KeptText = Annotated[str, Field(max_length=1000)]
# JSON has no others, and a record with one could not be read again.
_KeptNumber = Annotated[float, Field(allow_inf_nan=False)]


class FileFacts(BaseModel):
    """What the caller says of the file itself."""

    model_config = ConfigDict(frozen=True)

    name: str | None = Field(None, max_length=1024)
    type: str | None = Field(None, max_length=255)
    size: int | None = Field(None, ge=0, description="Exact size in bytes.")
    partSize: int | None = Field(None, ge=5 * 1024**2, le=5 * 1024**3, description="Bytes in each part.")  # noqa: N815 -- the wire's name


class _Kept(BaseModel):
    values: dict[_KeptName, _KeptText | int | _KeptNumber | bool] = Field(max_length=20)


@dataclass(frozen=True, slots=True)
class Asked:
    """Metadata taken apart."""

    options: Options
    file: FileFacts
    kept: dict[str, str | int | float | bool]
    as_task: bool = False
    """The webhook was asked for by its older name, and is to be told by the older document."""


CALLBACK = "callback_url"
"""What the older service calls `webhook_url`."""

IGNORED = frozenset({"relativePath", "lastModified"})
"""What Uppy may send and we have no use for."""

MOST_IGNORED = 40
MOST_IGNORED_CHARACTERS = 64

OPTION_NAMES = tuple(Options.model_fields)
FILE_NAMES = tuple(FileFacts.model_fields)


def read_metadata(metadata: Mapping[str, Any], settings: "Settings") -> Asked:
    """Take a caller's metadata apart. Raises Problem `unknown_option` or `invalid_option`."""
    allowed_models = settings.allowed_models
    given = {key: value for key, value in metadata.items() if value is not None and value != ""}
    callback = given.pop(CALLBACK, None)
    as_task = callback is not None and "webhook_url" not in given
    if as_task:
        given["webhook_url"] = callback
    webhook = CALLBACK if as_task else "webhook_url"
    for key in given:
        if not key.startswith("x-") and key not in (*OPTION_NAMES, *FILE_NAMES, *IGNORED):
            raise Problem(
                "unknown_option",
                f"There is no option {key!r}. Allowed are {', '.join((*OPTION_NAMES, *FILE_NAMES))}, "
                "and any name that begins with x-.",
                {"option": key.encode(errors="replace").decode()},
            )
    model = given.get("model")
    if model is not None and model not in allowed_models:
        raise Problem(
            "invalid_option", f"model must be one of {', '.join(allowed_models)}.", {"option": "model"}
        )
    chosen = {key: given[key] for key in OPTION_NAMES if key in given}
    options = _validated(Options, chosen, {"webhook_url": webhook})
    if options.webhook_url is not None:
        _check_webhook(options.webhook_url, webhook, settings)
    _check_translation(options, settings)
    fewest, most = options.min_speakers, options.max_speakers
    if fewest is not None and most is not None and fewest > most:
        raise Problem(
            "invalid_option", "min_speakers must not be more than max_speakers.", {"option": "min_speakers"}
        )
    file = _validated(FileFacts, {key: given[key] for key in FILE_NAMES if key in given})
    kept = _validated(_Kept, {"values": {key: given[key] for key in given if key.startswith("x-")}})
    return Asked(options, file, kept.values, as_task)


def ignored_names(names: Iterable[str]) -> tuple[str, ...]:
    """What has no effect, as many names and as much of each as a record keeps."""
    cut = (name[:MOST_IGNORED_CHARACTERS].encode(errors="replace").decode() for name in names)
    return tuple(dict.fromkeys(cut))[:MOST_IGNORED]


def _check_webhook(url: str, name: str, settings: "Settings") -> None:
    """Refuse at once what could not be delivered. Raises Problem `invalid_option`, by its caller's name."""
    named = {"option": name}
    if settings.webhook_secret is None:
        raise Problem(
            "invalid_option",
            f"{name} cannot be used here: no secret is set that would sign webhooks. Whoever runs this "
            "server sets BUCKETSCRIBE_WEBHOOK_SECRET. Until then, follow the transcription's events.",
            named,
        )
    if _is_private(url, settings.private_hosts):
        raise Problem(
            "invalid_option",
            f"{name}: the address is private, and none of those that may be told. Whoever runs this "
            "server names it in BUCKETSCRIBE_PRIVATE_HOSTS.",
            named,
        )


def _check_translation(options: Options, settings: "Settings") -> None:
    """Whisper's models of this name hear everything as English. Raises Problem `invalid_option`."""
    model = options.model or settings.model
    if options.task != "translate" or not model.endswith(".en"):
        return
    able = ", ".join(name for name in settings.allowed_models if not name.endswith(".en"))
    raise Problem(
        "invalid_option",
        f"The model {model} knows English only, and cannot translate. "
        + (f"Ask for one that can: {able}." if able else "None of this server's models can."),
        {"option": "model"},
    )


def _is_private(url: str, allowed: Sequence[str]) -> bool:
    """Whether a URL names an address that may not be asked. A name is looked up when it is asked."""
    from .public_addresses import Hosts, carried, is_public, web_address

    host, hosts = web_address(url).host, Hosts(allowed)
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return not (is_public(address) or hosts.has_name(host) or hosts.has_address(carried(address)))


def _validated[M: BaseModel](
    model: type[M], values: dict[str, Any], called: Mapping[str, str] | None = None
) -> M:
    """The values, checked; `called` are names of the caller's for some. Raises Problem `invalid_option`."""
    try:
        return model.model_validate(values)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False, include_context=False)[0]
        name = str(first["loc"][1 if model is _Kept and len(first["loc"]) > 1 else 0])
        name = (called or {}).get(name, name)
        what = first["msg"].removeprefix("Value error, ")
        raise Problem("invalid_option", f"{name}: {what}.", {"option": name}) from None
