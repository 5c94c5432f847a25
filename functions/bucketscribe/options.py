"""What a caller may ask for when an upload begins: the options of a transcription and facts of the file.

Uppy sends every value as a string and sends empty ones too, so "true" and "123" are understood and an
empty value counts as absent. Whatever is not known is refused by name: a misspelt option that is ignored
costs its owner an hour of waiting for the wrong transcript. Keys beginning with `x-` are free for callers.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from .errors import Problem

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


IGNORED = frozenset({"relativePath", "lastModified"})
"""What Uppy may send and we have no use for."""

OPTION_NAMES = tuple(Options.model_fields)
FILE_NAMES = tuple(FileFacts.model_fields)


def read_metadata(metadata: Mapping[str, Any], allowed_models: Collection[str]) -> Asked:
    """Take a caller's metadata apart. Raises Problem `unknown_option` or `invalid_option`."""
    given = {key: value for key, value in metadata.items() if value is not None and value != ""}
    if given.pop("webhook_url", None) is not None:
        raise Problem(
            "invalid_option",
            "webhook_url cannot be used: this version sends no webhooks. Follow the transcription's events.",
            {"option": "webhook_url"},
        )
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
    options = _validated(Options, {key: given[key] for key in OPTION_NAMES if key in given})
    fewest, most = options.min_speakers, options.max_speakers
    if fewest is not None and most is not None and fewest > most:
        raise Problem(
            "invalid_option", "min_speakers must not be more than max_speakers.", {"option": "min_speakers"}
        )
    file = _validated(FileFacts, {key: given[key] for key in FILE_NAMES if key in given})
    kept = _validated(_Kept, {"values": {key: given[key] for key in given if key.startswith("x-")}})
    return Asked(options, file, kept.values)


def _validated[M: BaseModel](model: type[M], values: dict[str, Any]) -> M:
    try:
        return model.model_validate(values)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False, include_context=False)[0]
        name = str(first["loc"][1 if model is _Kept and len(first["loc"]) > 1 else 0])
        raise Problem("invalid_option", f"{name}: {first['msg']}.", {"option": name}) from None
