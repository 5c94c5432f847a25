"""A stand-in for CloudWatch's alarms and the steps of Application Auto Scaling, one minute at a time.

Only what infra/gpu-worker.yaml uses: the metric math below, alarms with a threshold from above whose missing
data are no breach, and steps of ExactCapacity and ChangeInCapacity. Sources: "Using math expressions with
CloudWatch metrics", "Step scaling policies for Application Auto Scaling".
"""

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

type Series = list[float | None]
"""A value a minute, the newest last; None where there is none."""

LOOKS_BACK = 3
"""Minutes before the evaluated ones in which an alarm looks for a value, where the newest are missing."""


def compute(expression: str, series: Mapping[str, Series]) -> Series:
    """An expression of metric math."""
    minutes = len(next(iter(series.values())))

    def value(node: ast.expr) -> Series:
        match node:
            case ast.Constant(value=number) if isinstance(number, int | float):
                return [float(number)] * minutes
            case ast.Name(id=name):
                return series[name]
            case ast.BinOp(left=left, op=op, right=right):
                return [_operate(op, *pair) for pair in zip(value(left), value(right), strict=True)]
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return [_operate(op, *pair) for pair in zip(value(left), value(right), strict=True)]
            case ast.Call(func=ast.Name(id="CEIL"), args=[inner]):
                return [None if each is None else float(math.ceil(each)) for each in value(inner)]
            case ast.Call(func=ast.Name(id="IF"), args=[condition, yes, no]):
                asked = zip(value(condition), value(yes), value(no), strict=True)
                return [None if each is None else one if each else other for each, one, other in asked]
            case ast.Call(func=ast.Name(id="FILL"), args=[inner, ast.Name(id="REPEAT")]):
                return _repeated(value(inner))
            case ast.Call(func=ast.Name(id="FILL"), args=[inner, ast.Constant(value=int(number))]):
                return [float(number) if each is None else each for each in value(inner)]
        raise NotImplementedError(ast.dump(node))

    return value(ast.parse(expression, mode="eval").body)


def _operate(op: ast.operator | ast.cmpop, one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return None
    match op:
        case ast.Div():
            return None if other == 0 else one / other
        case ast.Gt():
            return float(one > other)
        case ast.Lt():
            return float(one < other)
    raise NotImplementedError(type(op).__name__)


def _repeated(series: Series) -> Series:
    filled: Series = []
    for each in series:
        filled.append(each if each is not None or not filled else filled[-1])
    return filled


def breach(alarm: Mapping[str, Any], metrics: Mapping[tuple[str, str], Series]) -> float | None:
    """By how much the newest value is over the alarm's threshold, if the alarm is on."""
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    assert alarm["TreatMissingData"] == "notBreaching"
    if "Metrics" in alarm:
        series: dict[str, Series] = {}
        for query in alarm["Metrics"]:
            if stat := query.get("MetricStat"):
                assert stat["Period"] == 60
                series[query["Id"]] = metrics[stat["Metric"]["MetricName"], stat["Stat"]]
        for query in alarm["Metrics"]:
            if "Expression" in query:
                series[query["Id"]] = compute(query["Expression"], series)
        (name,) = [query["Id"] for query in alarm["Metrics"] if query["ReturnData"]]
        found = series[name]
    else:
        found = metrics[alarm["MetricName"], alarm["Statistic"]]
    periods = int(alarm["EvaluationPeriods"])
    range_ = found[-periods - LOOKS_BACK :]
    real = [each for each in range_ if each is not None][-periods:]
    if len(real) < periods or min(real) < alarm["Threshold"]:
        return None
    return real[-1] - float(alarm["Threshold"])


def step(policy: Mapping[str, Any], over: float, capacity: int) -> int:
    """The capacity a policy of steps asks for, before the target's limits."""
    steps: Sequence[Mapping[str, int]] = policy["StepAdjustments"]
    (chosen,) = [
        each["ScalingAdjustment"]
        for each in steps
        if each["MetricIntervalLowerBound"] <= over < each.get("MetricIntervalUpperBound", math.inf)
    ]
    return chosen if policy["AdjustmentType"] == "ExactCapacity" else capacity + chosen


@dataclass
class Worker:
    """One of the fleet: coming, loading its model, idle, or at work; in minutes from now."""

    comes_in: int
    loads_for: int
    works_for: int = 0

    @property
    def runs(self) -> bool:
        return self.comes_in <= 0

    @property
    def idle(self) -> bool:
        return self.runs and self.loads_for <= 0 and self.works_for <= 0


@dataclass
class Fleet:
    """Workers and a queue under the template's alarms and policies. Metrics are a minute late."""

    more: tuple[Mapping[str, Any], Mapping[str, Any]]
    """Alarm and policy."""
    fewer: tuple[Mapping[str, Any], Mapping[str, Any]]
    least: int
    most: int
    comes_in: int = 6
    loads_for: int = 2
    desired: int = 0
    waiting: list[int] = field(default_factory=list)
    """Jobs: how many minutes each takes."""
    workers: list[Worker] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    """The desired count of each minute."""
    metrics: dict[tuple[str, str], Series] = field(default_factory=dict)
    silent: bool = False
    """Whether the service's metric is not told this minute."""
    _cooled: int = 0

    def minute(self) -> None:
        """Let a minute pass."""
        self._work()
        self._tell()
        self._scale()
        self._place()
        self.seen.append(self.desired)

    def minutes(self, count: int) -> None:
        for _ in range(count):
            self.minute()

    def _work(self) -> None:
        for worker in self.workers:
            if worker.comes_in > 0:
                worker.comes_in -= 1
            elif worker.loads_for > 0:
                worker.loads_for -= 1
            elif worker.works_for > 0:
                worker.works_for -= 1
            if worker.idle and self.waiting:
                worker.works_for = self.waiting.pop(0)

    def _tell(self) -> None:
        running = sum(worker.runs for worker in self.workers)
        idle = sum(worker.idle for worker in self.workers)
        told = {
            ("ApproximateNumberOfMessagesVisible", "Maximum"): float(len(self.waiting)),
            ("NumberOfEmptyReceives", "Sum"): float(max(0, 3 * idle - 1)),
            ("MemoryUtilization", "SampleCount"): float(running) if running and not self.silent else None,
        }
        for name, value in told.items():
            self.metrics.setdefault(name, [None] * 8).append(value)

    def _scale(self) -> None:
        late = {name: series[:-1] for name, series in self.metrics.items()}
        self._cooled -= 1
        alarm, policy = self.more
        if (over := breach(alarm, late)) is not None:
            self._set(step(policy, over, self.desired))
        alarm, policy = self.fewer
        if self._cooled <= 0 and (over := breach(alarm, late)) is not None:
            self._set(step(policy, over, self.desired))
            self._cooled = math.ceil(policy["Cooldown"] / 60)

    def _set(self, capacity: int) -> None:
        # The limits are those of an activity: by themselves they change nothing.
        self.desired = min(max(capacity, self.least), self.most)

    def _place(self) -> None:
        while len(self.workers) < self.desired:
            self.workers.append(Worker(self.comes_in, self.loads_for))
        for worker in list(self.workers):
            # One that works is protected.
            if len(self.workers) > self.desired and worker.works_for <= 0:
                self.workers.remove(worker)
