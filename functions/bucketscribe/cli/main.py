"""The command line: `bucketscribe`, also `python -m bucketscribe.cli.main`. Here it is put together.

What is asked for goes to standard output, all else to standard error. Imports stand inside the commands, so
that each starts fast and needs only its own extra.
"""

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from . import acting, keys, listing, models, serve
from .arguments import examples
from .doctor import doctor
from .output import NOBODY_READS
from .purge import purge
from .setup import setup
from .transcribe import transcribe

STATUSES = """\b
Exit statuses:
  0    done
  1    something went wrong
  2    the command line makes no sense
  3    the transcription failed, was canceled or has expired
  130  interrupted (Ctrl-C)
  141  nobody reads the output any more, as after `| head`
"""


class Commands(TyperGroup):
    """All commands, and the end of one whose output nobody reads."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. A broken pipe is no error worth a word, and has a status of its own."""
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:  # closed by the caller
                setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 -- for good
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # What is still held back must not fail at the interpreter's end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(NOBODY_READS) from None
        return result


app = typer.Typer(
    cls=Commands,
    name="bucketscribe",
    help="Upload a recording straight into a bucket; get a transcript.",
    epilog=f"{examples('bucketscribe transcribe talk.mp4 > talk.txt')}\n\n{STATUSES}",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ID = "0199b8f0-7c1e-7d3a-9a52-3f6e8d1c2b4a"
command = app.command

command(
    epilog=examples(
        "bucketscribe transcribe talk.mp4 --language en --output talk.srt",
        "bucketscribe transcribe 'talks/**/*.mp3' --format vtt --output transcripts/",
        "ffmpeg -i talk.mkv -f wav - | bucketscribe transcribe - --name talk.wav",
    )
)(transcribe)
command(
    epilog=examples(
        "bucketscribe ls --limit 20",
        "bucketscribe ls --state failed | cut -f 1,5",
        "bucketscribe ls --json > transcriptions.jsonl",
    )
)(listing.ls)
command(epilog=examples(f"bucketscribe show {ID}", f"bucketscribe show {ID} --json"))(listing.show)
command(
    epilog=examples(
        f"bucketscribe get {ID} --format srt > talk.srt",
        "bucketscribe ls --state completed | bucketscribe get - --output transcripts/",
    )
)(acting.get)
command(
    epilog=examples(f"bucketscribe cancel {ID}", "bucketscribe ls --state queued | bucketscribe cancel -")
)(acting.cancel)
command(
    epilog=examples(
        f"bucketscribe retry {ID}", "bucketscribe ls --state failed --json | bucketscribe retry -"
    )
)(acting.retry)
command(epilog=examples(f"bucketscribe rm {ID}", "bucketscribe ls --state expired | bucketscribe rm -"))(
    acting.rm
)
command(
    epilog=examples(
        "bucketscribe doctor",
        "bucketscribe doctor --data-dir .data",
        "bucketscribe doctor --worker --json",
    )
)(doctor)
command(
    epilog=examples(
        "bucketscribe setup",
        "bucketscribe setup --events arn:minio:sqs::bucketscribe:webhook",
    )
)(setup)
command(
    epilog=examples("bucketscribe purge --older-than 30d --dry-run", "bucketscribe purge --older-than 30d")
)(purge)
keys_app = typer.Typer(
    name="keys",
    help="Make, list and revoke API keys, as the operator of the bucket.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
keys_app.command(
    epilog=examples(
        "bucketscribe keys new phone --scope upload --expires 90d",
        "bucketscribe keys new me --owner local --data-dir .data > key.txt",
    )
)(keys.new)
keys_app.command(epilog=examples("bucketscribe keys ls", "bucketscribe keys ls --json"))(keys.ls)
keys_app.command(epilog=examples("bucketscribe keys revoke phone", "bucketscribe keys revoke - < key.txt"))(
    keys.revoke
)
app.add_typer(keys_app)
models_app = typer.Typer(
    name="models",
    help="Fetch models for a worker, and list those that are there.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
models_app.command(
    epilog=examples(
        "bucketscribe models get large-v3-turbo --align en,de",
        "bucketscribe models get small --into models && aws s3 sync models s3://bucket/models",
    )
)(models.get)
models_app.command(epilog=examples("bucketscribe models ls"))(models.ls)
app.add_typer(models_app)
command(epilog=examples("bucketscribe up", "BUCKETSCRIBE_PORT=9000 bucketscribe up"))(serve.up)
command(epilog=examples("BUCKETSCRIBE_HOST=0.0.0.0 BUCKETSCRIBE_AUTH=keys bucketscribe api"))(serve.api)
command(epilog=examples("BUCKETSCRIBE_MODEL=tiny.en bucketscribe worker"))(serve.worker)
command(epilog=examples("bucketscribe sweep --once"))(serve.sweep)


if __name__ == "__main__":
    app(prog_name="bucketscribe")
