"""The table of metrics against the docs and the code that tells them, and the formats they leave in."""

import ast
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bucketscribe import metrics
from bucketscribe.metrics import METRICS, PREFIX, Kind, Reading
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_backend", metrics._backend)


@pytest.fixture
def _for_prometheus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)
    metrics.configure()


@pytest.fixture
def _on_a_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "api")
    metrics.configure()


def exposed(*gauges: Reading) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and its labels' values, in the order of the labels' names."""
    exposition = metrics.exposition(gauges)
    assert exposition is not None
    return {
        (sample.name, *(text for _, text in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition.body.decode())
        for sample in family.samples
    }


def test_every_metric_is_in_the_docs() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    for name, metric in METRICS.items():
        shown = PREFIX + name + ("_total" if metric.kind is Kind.COUNTER else "")
        labels = " ".join(f"`{label}`" for label in metric.labels) or "—"
        assert f"| `{shown}` | {metric.kind} | {labels} | {metric.help} |" in text
    assert len(re.findall(rf"^\| `{PREFIX}", text, re.MULTILINE)) == len(METRICS)


def told() -> Iterator[tuple[Path, ast.Call]]:
    """Every place that tells a metric."""
    for file in (ROOT / "functions").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("metrics.count", "metrics.observe"):
                yield file, node


def test_whoever_tells_a_metric_does_so_as_the_table_says() -> None:
    names = set()
    for file, call in told():
        name = call.args[0]
        assert isinstance(name, ast.Constant), f"{file}:{call.lineno}"
        metric = METRICS[str(name.value)]
        assert isinstance(call.func, ast.Attribute)
        kind = {"count": Kind.COUNTER, "observe": Kind.HISTOGRAM}[call.func.attr]
        labels = tuple(keyword.arg for keyword in call.keywords)
        assert (kind, labels) == (metric.kind, metric.labels), f"{file}:{call.lineno}"
        names.add(name.value)
    assert names == {name for name, metric in METRICS.items() if metric.kind is not Kind.GAUGE}


def test_nothing_is_collected_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_backend", metrics._Nobody())
    metrics.count("uploads_begun")
    metrics.flush()
    assert metrics.exposition() is None


def test_without_prometheus_client_nothing_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    metrics.configure()
    metrics.count("uploads_begun")
    assert metrics.exposition() is None


@pytest.mark.usefixtures("_for_prometheus")
def test_prometheus_is_told_what_was_counted_and_what_is_read_now() -> None:
    metrics.count("uploads_begun")
    metrics.count("uploads_begun")
    metrics.count("uploads_refused", code="too_large")
    for seconds in (0.3, 4, 40):
        metrics.observe("stage_seconds", seconds, stage="decode")
    samples = exposed(Reading("open_markers", 3, {"kind": "jobs"}), Reading("queue_messages", 2, {}))
    assert samples["bucketscribe_uploads_begun_total",] == 2
    assert samples["bucketscribe_uploads_expired_total",] == 0
    assert samples["bucketscribe_uploads_refused_total", "too_large"] == 1
    assert samples["bucketscribe_stage_seconds_bucket", "5.0", "decode"] == 2
    assert samples["bucketscribe_stage_seconds_sum", "decode"] == 44.3
    assert samples["bucketscribe_open_markers", "jobs"] == 3
    assert samples["bucketscribe_queue_messages",] == 2
    assert not [name for name, *_ in samples if name.endswith("_created")]


def documents(printed: str) -> list[dict[str, Any]]:
    """Documents of the embedded metric format, each checked against its specification."""
    found = []
    for line in printed.splitlines():
        document = json.loads(line)
        assert len(line) <= 1_000_000
        assert abs(document["_aws"]["Timestamp"] / 1000 - time.time()) < 60
        (directive,) = document["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == "Bucketscribe"
        for dimensions in directive["Dimensions"]:
            assert len(dimensions) <= 30
            assert all(isinstance(document[name], str) and document[name] for name in dimensions)
        assert 1 <= len(directive["Metrics"]) <= 100
        for metric in directive["Metrics"]:
            assert metric["Unit"] in ("Count", "Seconds", "None")
            values = document[metric["Name"]]
            assert 1 <= len(values) <= 100
            assert all(isinstance(value, float) for value in values)
        found.append(document)
    return found


@pytest.mark.usefixtures("_on_a_lambda")
def test_cloudwatch_gets_a_document_for_each_set_of_dimensions(capsys: pytest.CaptureFixture[str]) -> None:
    metrics.count("uploads_begun")
    metrics.count("transcriptions", state="uploading")
    metrics.observe("real_time_factor", 25, engine="whisperx", model="base")
    assert capsys.readouterr().out == ""
    metrics.flush()
    begun, moved, speed = documents(capsys.readouterr().out)
    assert (begun["_aws"]["CloudWatchMetrics"][0]["Dimensions"], begun["uploads_begun"]) == ([[]], [1.0])
    assert (moved["state"], moved["transcriptions"]) == ("uploading", [1.0])
    directive = speed["_aws"]["CloudWatchMetrics"][0]
    assert directive["Dimensions"] == [["engine", "model"]]
    assert directive["Metrics"] == [{"Name": "real_time_factor", "Unit": "None"}]
    assert (speed["engine"], speed["model"], speed["real_time_factor"]) == ("whisperx", "base", [25.0])
    metrics.flush()
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("_on_a_lambda")
def test_cloudwatch_gets_each_value_once_however_many_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(300):
        metrics.count("uploads_begun")
    metrics.flush()
    assert sum(sum(document["uploads_begun"]) for document in documents(capsys.readouterr().out)) == 300


@pytest.mark.usefixtures("_on_a_lambda")
def test_cloudwatch_is_not_told_what_the_gateway_measures(capsys: pytest.CaptureFixture[str]) -> None:
    metrics.observe("request_seconds", 0.25, route="/s3/multipart", method="POST", status="2xx")
    metrics.flush()
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("_on_a_lambda")
def test_on_a_lambda_nobody_can_ask_for_metrics() -> None:
    assert metrics.exposition() is None
