"""What a worker's health endpoint says: what it is at, and since when nothing was heard of it.

Alive is a worker that loads a model, however long that takes; it is not once its work was silent for so long
that it hangs. Ready is one that takes work: the API's own readiness asks for that.
"""

import time
from typing import TYPE_CHECKING, Literal

from ..monitoring import Health
from ..settings import Settings
from .attempt import HUNG_SECONDS, Attempt

if TYPE_CHECKING:
    from .main import Worker

type Doing = Literal["loading", "idle", "working", "stopping", "hung"]


class Watch:
    """Looks at a worker, which is there once its model is loaded."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.worker: Worker | None = None

    def look(self) -> Health:
        """How it is now; from any thread."""
        doing: Doing = self._doing()
        attempts = self._attempts
        jobs = [
            {"id": attempt.claim.record.id, **attempt.status.progress.model_dump(exclude_none=True)}
            for attempt in attempts
        ]
        facts = {"engine": self.settings.engine, "model": self.settings.model, "jobs": jobs}
        return Health(doing, alive=doing != "hung", ready=doing in ("idle", "working"), facts=facts)

    @property
    def _attempts(self) -> list[Attempt]:
        if self.worker is None:
            return []
        return [attempt for attempt in tuple(self.worker.attempts) if attempt.over_since is None]

    def _doing(self) -> Doing:
        worker = self.worker
        if worker is None:
            return "loading"
        attempts = self._attempts
        silent = [time.monotonic() - worker.looked, *(attempt.silent_seconds for attempt in attempts)]
        if max(silent) > HUNG_SECONDS:
            return "hung"
        if worker.stopping:
            return "stopping"
        return "working" if attempts else "idle"
