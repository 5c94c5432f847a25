"""The manners of WhisperX's packages: set before any of them is imported, and once more when they are.

They print to the terminal, log by handlers of their own, and report their use to their makers; a worker's log
has one event a line, and nothing of an operator's recordings is anybody else's business. Their threads spin
while they wait for each other: where cores are shared, VAD of a minute then took up to 41 s on two of them,
and 4 s with less spinning, which costs nothing where cores are free.
"""

import logging
import os
import warnings

_LOUD = (
    "whisperx",
    "pyannote",
    "lightning",
    "lightning.pytorch",
    "lightning.fabric",
    "transformers",
    "huggingface_hub",
)


def hush() -> None:
    """Switch their telemetry off, and their chatter. Some set up their loggers when they are imported."""
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for name in _LOUD:
        logger = logging.getLogger(name)
        logger.setLevel(logging.ERROR)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())  # whisperx logs to stdout unless there is one
    modules = "|".join((*_LOUD, "torch", "torchaudio", "torchcodec"))
    warnings.filterwarnings("ignore", module=rf"({modules})\b")
