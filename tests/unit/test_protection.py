"""Scale-in protection, against a stand-in for the ECS container agent's endpoint: there is no ECS here."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import Any

import pytest
from bucketscribe.worker.protection import EXPIRES_MINUTES, Protection
from structlog.testing import capture_logs

PATIENCE_SECONDS = 10.0
ARN = "arn:aws:ecs:eu-central-1:123456789012:task/fleet/0123"
PROTECT = {"ProtectionEnabled": True, "ExpiresInMinutes": EXPIRES_MINUTES}
LET_GO = {"ProtectionEnabled": False}

type Answer = tuple[int, object]


def error(status: int, code: str, message: str) -> Answer:
    """What the agent answers where its own call to ECS fails, or is not allowed."""
    return status, {"error": {"Arn": ARN, "Code": code, "Message": message}}


NO_SERVICE = (200, {"failure": {"Arn": ARN, "Reason": "TASK_NOT_VALID"}})
BLOCKED = (200, {"failure": {"Arn": ARN, "Reason": "DEPLOYMENT_BLOCKED", "Detail": "Try again."}})
DENIED = error(400, "AccessDeniedException", "No ecs:UpdateTaskProtection for this task's role.")
TIMED_OUT = error(504, "RequestCanceled", "Timed out calling ECS Task Protection API")


class AgentStandIn:
    """Answers as the agent does (aws/amazon-ecs-agent, `taskprotection/v1`), or as it is told to."""

    def __init__(self) -> None:
        self.asked: SimpleQueue[Any] = SimpleQueue()
        self.answers: list[Answer] = []
        """What it says instead, one after the other."""
        self.may_answer = threading.Event()
        self.may_answer.set()
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                wish = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                unknown = set(wish) - {"ProtectionEnabled", "ExpiresInMinutes"}
                assert not unknown, f"the agent refuses other fields: {unknown}"
                assert self.path == "/api/4a5b/task-protection/v1/state"
                assert self.headers["Content-Type"] == "application/json"
                agent.asked.put(wish)
                agent.may_answer.wait(PATIENCE_SECONDS)
                fields = {"TaskArn": ARN, "ProtectionEnabled": wish["ProtectionEnabled"]}
                if wish["ProtectionEnabled"]:
                    fields["ExpirationDate"] = "2026-11-21T15:30:00Z"
                status, answer = agent.answers.pop(0) if agent.answers else (200, {"protection": fields})
                self.send_response(status)
                self.end_headers()
                self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

            def log_message(self, format: str, *args: Any) -> None:
                """Not here."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_port}/api/4a5b"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def next(self) -> Any:
        """What it is asked next."""
        return self.asked.get(timeout=PATIENCE_SECONDS)


@pytest.fixture
def agent() -> Iterator[AgentStandIn]:
    agent = AgentStandIn()
    yield agent
    agent.server.shutdown()
    agent.server.server_close()


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_task_with_a_job_is_protected_and_one_without_is_not(agent: AgentStandIn) -> None:
    protection = Protection(agent.uri)
    protection.want(False)
    protection.want(True)
    assert agent.next() == PROTECT
    protection.want(True)
    protection.want(False)
    assert agent.next() == LET_GO
    protection.want(True)
    assert agent.next() == PROTECT
    protection.end(PATIENCE_SECONDS)
    assert agent.next() == LET_GO
    assert agent.asked.empty()


def test_a_long_job_s_protection_is_renewed(agent: AgentStandIn) -> None:
    protection = Protection(agent.uri, renew_seconds=0.01)
    protection.want(True)
    assert [agent.next() for _ in range(3)] == [PROTECT] * 3
    protection.end(PATIENCE_SECONDS)
    until(lambda: agent.next() == LET_GO)


@pytest.mark.parametrize(
    "answer",
    [
        BLOCKED,
        DENIED,
        TIMED_OUT,
        (500, b"<html>"),
        (200, b"<html>"),
        (200, []),
        (200, {}),
        (404, {"error": 1}),
    ],
    ids=["blocked", "denied", "timed out", "500", "no JSON", "a list", "empty", "unknown"],
)
def test_what_is_refused_is_logged_and_asked_for_again(agent: AgentStandIn, answer: Answer) -> None:
    agent.answers = [answer]
    protection = Protection(agent.uri, retry_seconds=0.01)
    with capture_logs() as lines:
        protection.want(True)
        assert [agent.next(), agent.next()] == [PROTECT, PROTECT]
        protection.end(PATIENCE_SECONDS)
    assert agent.next() == LET_GO
    refused, granted, removed = lines
    assert (refused["log_level"], refused["code"]) == ("warning", "protection_refused")
    if answer in (BLOCKED, DENIED, TIMED_OUT):
        assert refused["reason"].split(":")[0] in str(answer)
        assert "ecs:UpdateTaskProtection" in refused["reason"] or answer is not DENIED
    assert [granted["event"], removed["event"]] == ["task protected", "task not protected any more"]


def test_a_task_of_no_service_asks_once(agent: AgentStandIn) -> None:
    agent.answers = [NO_SERVICE]
    protection = Protection(agent.uri, retry_seconds=0.01)
    with capture_logs() as lines:
        protection.want(True)
        assert agent.next() == PROTECT
        until(lambda: len(lines) == 1)
        protection.want(False)
        protection.want(True)
        protection.end(PATIENCE_SECONDS)
    assert agent.asked.empty()
    assert "TASK_NOT_VALID" in lines[0]["reason"]


def test_an_agent_that_does_not_answer_holds_nobody_up(agent: AgentStandIn) -> None:
    agent.may_answer.clear()
    protection = Protection(agent.uri, answer_seconds=0.2, retry_seconds=0.01)
    begun = time.monotonic()
    with capture_logs() as lines:
        protection.want(True)
        assert agent.next() == PROTECT
        protection.want(False)
        protection.end(0.05)
        assert time.monotonic() - begun < PATIENCE_SECONDS / 2
        until(lambda: any("timed out" in line.get("reason", "") for line in lines))
        agent.may_answer.set()
        until(lambda: agent.next() == LET_GO)


def test_an_agent_that_is_not_there_stops_nothing() -> None:
    with capture_logs() as lines:
        protection = Protection("http://127.0.0.1:9/api/4a5b", retry_seconds=60)
        protection.want(True)
        until(lambda: len(lines) == 1)
    assert lines[0]["code"] == "protection_refused"


def test_without_an_agent_there_is_nothing_to_ask() -> None:
    threads = threading.active_count()
    protection = Protection()
    protection.want(True)
    protection.end()
    assert threading.active_count() == threads


def test_no_proxy_stands_before_the_agent(agent: AgentStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    Protection(agent.uri).want(True)
    assert agent.next() == PROTECT
