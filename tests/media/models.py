"""Small models of random weights, made where the real ones cannot be had: they hear nothing, but they run.

They lie as the real ones do, so that WhisperX, transformers and pyannote load and run them by the code that
loads and runs the real ones. Takes a second each. Needs the `whisperx` extra.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np

LETTERS = "abcdefghijklmnopqrstuvwxyz'"


def wav2vec2(folder: Path, letters: str = LETTERS) -> Path:
    """Make a `Wav2Vec2ForCTC` and its processor, which know these letters."""
    import torch
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
        Wav2Vec2Processor,
    )

    folder.mkdir(parents=True)
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4}
    vocabulary |= {letter: at for at, letter in enumerate(letters, len(vocabulary))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), word_delimiter_token="|")
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=16_000, do_normalize=True)
    Wav2Vec2Processor(extractor, tokenizer).save_pretrained(folder)
    torch.manual_seed(1)
    config = Wav2Vec2Config(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(32,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        pad_token_id=0,
    )
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    return folder


def diarization(folder: Path) -> Path:
    """Make a pyannote pipeline as community-1 is one.

    It tells speech by the real model that WhisperX brings, and speakers by one of random weights.
    """
    import torch
    import yaml  # type: ignore[import-untyped]
    from pyannote.audio import Model
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.embedding import XVectorSincNet

    dimension = 512
    package = find_spec("whisperx")
    assert package is not None
    assert package.origin is not None
    weights = Path(package.origin).with_name("assets") / "pytorch_model.bin"
    for part in ("segmentation", "embedding", "plda"):
        (folder / part).mkdir(parents=True)
    (folder / "segmentation" / "pytorch_model.bin").symlink_to(weights)
    torch.manual_seed(1)
    embedding: Model = XVectorSincNet(dimension=dimension)
    embedding.eval()
    torch.save(
        {
            "state_dict": embedding.state_dict(),
            "hyper_parameters": dict(embedding.hparams),
            "pytorch-lightning_version": "2.0.0",
            "pyannote.audio": {
                "versions": {"torch": torch.__version__, "pyannote.audio": "4.0.0"},
                "architecture": {"module": type(embedding).__module__, "class": type(embedding).__name__},
                "specifications": Specifications(Problem.REPRESENTATION, Resolution.CHUNK, duration=5.0),
            },
        },
        folder / "embedding" / "pytorch_model.bin",
    )
    plda = folder / "plda"
    ones = np.eye(128)
    mean, projection = np.zeros(dimension), np.eye(dimension, 128)
    np.savez(plda / "xvec_transform.npz", mean1=mean, mean2=np.zeros(128), lda=projection)
    np.savez(plda / "plda.npz", mu=np.zeros(128), tr=ones, psi=np.linspace(2, 1, 128))
    config = {
        "dependencies": {"pyannote.audio": "4.0.0"},
        "pipeline": {
            "name": "pyannote.audio.pipelines.SpeakerDiarization",
            "params": {
                "clustering": "VBxClustering",
                "segmentation": "$model/segmentation",
                "segmentation_batch_size": 32,
                "embedding": "$model/embedding",
                "embedding_batch_size": 32,
                "embedding_exclude_overlap": True,
                "plda": "$model/plda",
            },
        },
        "params": {
            "clustering": {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8},
            "segmentation": {"min_duration_off": 0.0, "threshold": 0.5},
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder
