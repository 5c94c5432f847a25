"""`models`: fill a folder of models from where they are published, and see what is in one.

For an operator: what an image's build runs, and what fills the bucket that workers get their models from.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .output import FAILED, clean, note, say, senseless
from .serve import extra, read_settings

if TYPE_CHECKING:
    from ..settings import Settings

Into = Annotated[
    Path | None,
    typer.Option(
        "--into",
        metavar="FOLDER",
        help="The models folder; by default the worker's own, of BUCKETSCRIBE_MODELS_DIR.",
    ),
]


def get(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL…",
            help="Whisper models, by faster-whisper's names, such as large-v3-turbo, or those of the Hugging "
            "Face hub; separated by commas, too.",
            show_default=False,
        ),
    ] = None,
    align: Annotated[
        str, typer.Option(metavar="en,de,…", help="Languages to align words in, separated by commas.")
    ] = "",
    diarize: Annotated[
        bool,
        typer.Option(
            "--diarize", help="What tells speakers apart, too: needs a licence and BUCKETSCRIBE_HF_TOKEN."
        ),
    ] = False,
    into: Into = None,
) -> None:
    """Fetch models into a models folder. What is there already is left alone; repeat it after a failure.

    Each is fetched even if another cannot be; the status is 1 if one could not.
    """
    from ..options import LANGUAGES

    named = _listed(",".join(models or ()))
    languages = _listed(align)
    for language in languages:
        if language not in LANGUAGES:
            raise senseless(f"{language!r} is not a language's code", "--align")
    if not (named or languages or diarize):
        raise senseless("name a model, or languages with --align, or give --diarize", "MODEL…")
    settings = read_settings()
    failed = False
    for what, name in [
        *(("whisper", model) for model in named),
        *(("align", language) for language in languages),
        *((("diarization", ""),) if diarize else ()),
    ]:
        failed = not _get(settings, what, name, into or settings.models_folder) or failed
    if failed:
        raise typer.Exit(FAILED)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _get(settings: "Settings", what: str, name: str, folder: Path) -> bool:
    """Fetch one and say so; whether it is there now."""
    with extra("worker"):
        from ..worker import hub_access as hub
        from ..worker import model_download as download
        from ..worker.engines.base import ModelUnavailable

    token = hub.token_of(settings.hf_token.get_secret_value() if settings.hf_token else None)
    note(f"{what} {name}".rstrip() + " …")
    try:
        if what == "whisper":
            fetched = download.get_whisper(name, folder, token)
        elif what == "align":
            with extra("whisperx"):
                fetched = download.get_alignment(name, folder, _named(settings, name), token)
        else:
            fetched = download.get_diarization(settings.diarize_model, folder, token)
    except ModelUnavailable as error:
        note(f"Error: {error} [{error.code}]")
        return False
    note("  fetched" if fetched else "  is there")
    return True


def _named(settings: "Settings", language: str) -> str | None:
    """The alignment model the settings name for a language, if any."""
    return dict(named.split("=", 1) for named in settings.align_models).get(language)


def ls(into: Into = None) -> None:
    """List the models in a models folder, with their sizes.

    In a pipe, a line each with tabs between kind, name and size in bytes.
    """
    from ..worker.model_folder import stored

    found = list(stored(into or read_settings().models_folder))
    if not sys.stdout.isatty():
        for model in found:
            say("\t".join(map(clean, (model.kind, model.name, str(model.size)))))
        return
    for model in found:
        say(clean(f"{model.kind:<12} {model.name:<40} {model.size / 1e9:>6.2f} GB").replace("\t", " "))
    total = sum(model.size for model in found) / 1e9
    say(f"{len(found)} models, {total:.2f} GB" if found else "There is no model.")
