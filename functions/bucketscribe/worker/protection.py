"""Scale-in protection of the ECS task we run in: a task with a job is not the one that is ended.

The container agent's endpoint, where there is one: `PUT $ECS_AGENT_URI/task-protection/v1/state`. It answers
with `protection`, with a `failure` (and 200), or with an `error`; it gives its own call 4 s. Source: "Amazon
ECS task scale-in protection endpoint", and the agent's code (aws/amazon-ecs-agent, `taskprotection/v1`).

Protection is asked for in a thread, once a job is claimed. A task that is ended before it is granted gives
the job back on SIGTERM; so it is when protection cannot be had, which is logged and stops no work. It ends
by itself after half an hour, should the worker hang.
"""

import json
import math
import threading
import time
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError

import structlog

log = structlog.get_logger()

EXPIRES_MINUTES = 30
RENEW_SECONDS = 600.0
RETRY_SECONDS = 60.0
ANSWER_SECONDS = 6.0
END_SECONDS = 2.0


class Refused(Exception):
    """The agent answers, but does not protect. `final` where it never will."""

    def __init__(self, reason: str, *, final: bool) -> None:
        super().__init__(reason)
        self.final = final


class Protection:
    """The protection of this task; without an agent, asking for it does nothing."""

    def __init__(
        self,
        agent: str | None = None,
        *,
        renew_seconds: float = RENEW_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._url = None if not agent else f"{agent.rstrip('/')}/task-protection/v1/state"
        self._renew_seconds = renew_seconds
        self._retry_seconds = retry_seconds
        self._answer_seconds = answer_seconds
        self._wanted = False
        self._asked = False
        """What the agent was last asked for, and may have done."""
        self._asking = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        # The agent is on this machine, whatever proxy the world is behind.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def want(self, wanted: bool) -> None:
        """Have it, or not; at once, and again is fine. For one thread."""
        if self._url is None or wanted == self._wanted:
            return
        with self._changed:
            self._wanted = wanted
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="protection", daemon=True)
            self._thread.start()

    def end(self, seconds: float = END_SECONDS) -> None:
        """Remove it; waits for that so long at most."""
        self.want(False)
        with self._changed:
            self._changed.wait_for(lambda: not self._asked and not self._asking, seconds)

    def _keep(self) -> None:
        due = math.inf
        while True:
            with self._changed:
                while self._wanted == self._asked and (left := due - time.monotonic()) > 0:
                    self._changed.wait(None if left == math.inf else left)
                wanted = self._asked = self._wanted
                self._asking = True
            try:
                self._ask(wanted)
                due = time.monotonic() + self._renew_seconds if wanted else math.inf
            except (Refused, HTTPException, OSError, ValueError) as error:
                final = isinstance(error, Refused) and error.final
                log.warning("task protection not changed", code="protection_refused", reason=str(error))
                due = math.inf if final else time.monotonic() + self._retry_seconds
                if final:
                    self._url = None
            with self._changed:
                self._asking = False
                self._asked = self._asked and self._url is not None
                self._changed.notify_all()
            if self._url is None:
                return

    def _ask(self, wanted: bool) -> None:
        """Raises Refused, and what HTTP and a text that is no JSON raise."""
        wish: dict[str, Any] = {"ProtectionEnabled": wanted}
        if wanted:
            wish["ExpiresInMinutes"] = EXPIRES_MINUTES
        request = urllib.request.Request(  # noqa: S310 -- ECS says where its agent is
            self._url or "",
            json.dumps(wish).encode(),
            {"Content-Type": "application/json"},
            method="PUT",
        )
        try:
            with self._opener.open(request, timeout=self._answer_seconds) as response:
                answer = response.read()
        except HTTPError as error:
            raise Refused(_told(error.read()) or str(error), final=False) from error
        fields = json.loads(answer)
        protection = fields.get("protection") if isinstance(fields, dict) else None
        if not isinstance(protection, dict) or protection.get("ProtectionEnabled") is not wanted:
            # A task that belongs to no service is none that anybody scales in.
            raise Refused(_told(answer) or "no protection in the answer", final=b"TASK_NOT_VALID" in answer)
        log.info("task protected" if wanted else "task not protected any more")


def _told(answer: bytes) -> str:
    """What the agent says of a failure or an error; empty where it cannot be read."""
    try:
        fields = json.loads(answer)
        said = fields.get("failure") or fields["error"]
        return f"{said.get('Reason') or said['Code']}: {said.get('Detail') or said.get('Message', '')}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
