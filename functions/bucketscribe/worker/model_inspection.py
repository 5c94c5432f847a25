"""Which models a worker has, and which could be had. For `doctor --worker`.

Each is looked for where the worker would. Nothing is fetched: the hub is asked whether it would give what is
not here.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from ..probe import Finding, Verdict
from ..settings import Settings
from . import hub_access as hub
from .engines.base import ModelUnavailable
from .model_folder import ALIGN, DIARIZATION, TORCHAUDIO, WHISPER, has_diarization, stored
from .models import resolve

WITHOUT_ALIGNMENT = "words keep Whisper's own times [alignment_unavailable]"
WITHOUT_SPEAKERS = "transcripts come without speakers, and say so [diarization_unavailable]"


class ModelLooks:
    """Which models are here, and which could be had. `in_store`: the names of the files a bucket has."""

    def __init__(self, settings: Settings, threads: ThreadPoolExecutor, in_store: frozenset[str]) -> None:
        self._settings = settings
        self._folder = settings.models_folder
        self._token = hub.token_of(settings.hf_token.get_secret_value() if settings.hf_token else None)
        self._in_store = in_store
        self._threads = threads

    def findings(self) -> Iterator[Finding]:
        """The models that are needed first, then those that only better a transcript."""
        models = dict.fromkeys((self._settings.model, *self._settings.allowed_models))
        looks = [partial(self._whisper, model) for model in models]
        if self._settings.engine == "whisperx":
            looks += [partial(self._alignment), partial(self._speakers)]
        for done in [self._threads.submit(look) for look in looks]:
            yield from done.result()

    def _whisper(self, model: str) -> list[Finding]:
        if f"{WHISPER}/{model}/model.bin" in self._in_store:
            return [Finding(model, Verdict.OK, "in the bucket of models")]
        try:
            place = resolve(model, self._folder, self._settings.allowed_models)
        except ModelUnavailable as error:
            return [Finding(model, Verdict.MISSING, str(error), "correct BUCKETSCRIBE_ALLOWED_MODELS")]
        if Path(place).is_dir():
            return [Finding(model, Verdict.OK, place)]
        repository = hub.repository_of(model)
        if repository is None:
            means = "correct BUCKETSCRIBE_ALLOWED_MODELS"
            return [Finding(model, Verdict.MISSING, "nobody knows a model of this name", means)]
        if isinstance(try_to_load_from_cache(repository, "model.bin"), str):
            return [Finding(model, Verdict.OK, "in the hub's cache")]
        return [self._of_hub(model, repository)]

    def _of_hub(self, model: str, repository: str) -> Finding:
        answer = hub.ask(repository, "model.bin", self._token)
        first = "when the worker starts" if model == self._settings.model else "when it is first asked for"
        if answer == hub.Answer.GIVEN:
            means = f"fetched from the hub {first}; `bucketscribe models get {model}` does so now"
            return Finding(model, Verdict.MISSING, "not here", means, needed=False)
        if answer == hub.Answer.REFUSED:
            return Finding(model, Verdict.MISSING, "the hub refuses it", hub.licence(repository, self._token))
        if answer == hub.Answer.UNKNOWN:
            means = f"no {repository}/model.bin is there: correct BUCKETSCRIBE_ALLOWED_MODELS"
            return Finding(model, Verdict.MISSING, "not here, and the hub does not know it", means)
        return Finding(
            model,
            Verdict.MISSING,
            "not here, and the hub does not answer",
            f"run `bucketscribe models get {model}` where it does, and bring the models folder; or take it "
            "out of BUCKETSCRIBE_ALLOWED_MODELS",
        )

    def _alignment(self) -> list[Finding]:
        here = {model.name for model in stored(self._folder) if model.kind == ALIGN}
        here |= {name.split("/")[1] for name in self._in_store if fnmatch(name, f"{ALIGN}/*/config.json")}
        here |= {language for language, file in TORCHAUDIO.items() if f"{ALIGN}/{file}" in self._in_store}
        findings = []
        for language, model in (named.split("=", 1) for named in self._settings.align_models):
            if (Path(model) / "config.json").is_file():
                here.add(language)
            elif model.startswith(("/", ".", "~")):
                here.discard(language)
                means = f"{WITHOUT_ALIGNMENT}: correct BUCKETSCRIBE_ALIGN_MODELS"
                seen = f"{model} is no folder of a wav2vec2 model"
                findings.append(
                    Finding(f"alignment of {language}", Verdict.MISSING, seen, means, needed=False)
                )
        how = "`bucketscribe models get --align en,de` fetches more"
        if hub.ask("facebook/wav2vec2-base-960h", "config.json", None) == hub.Answer.NO_ANSWER:
            others = f"else {WITHOUT_ALIGNMENT}: {how}, where the hub answers"
        else:
            others = f"others are fetched when first needed; {how}"
        if here:
            findings.append(Finding("alignment", Verdict.OK, ", ".join(sorted(here)), others, needed=False))
        else:
            seen = "no language's model is here"
            findings.append(Finding("alignment", Verdict.MISSING, seen, others, needed=False))
        return findings

    def _speakers(self) -> list[Finding]:
        model = self._settings.diarize_model
        if has_diarization(self._folder):
            return [Finding("speakers", Verdict.OK, str(self._folder / DIARIZATION))]
        if f"{DIARIZATION}/config.yaml" in self._in_store:
            return [Finding("speakers", Verdict.OK, "in the bucket of models")]
        if (Path(model) / "config.yaml").is_file():
            return [Finding("speakers", Verdict.OK, model)]
        fetch = "`bucketscribe models get --diarize`"
        match hub.ask(model, "config.yaml", self._token):
            case hub.Answer.GIVEN:
                means = f"fetched when first asked for; {fetch} does so now"
                return [Finding("speakers", Verdict.OK, f"the hub gives {model}", means)]
            case hub.Answer.REFUSED:
                seen, todo = f"the hub refuses {model}", hub.licence(model, self._token)
            case hub.Answer.UNKNOWN:
                seen, todo = f"the hub knows no {model}", "correct BUCKETSCRIBE_DIARIZE_MODEL"
            case _:
                seen = "not here, and the hub does not answer"
                todo = f"{hub.licence(model, self._token)}, and run {fetch} where the hub answers"
        return [Finding("speakers", Verdict.MISSING, seen, f"{WITHOUT_SPEAKERS}: {todo}", needed=False)]
