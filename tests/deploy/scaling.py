"""A stand-in for CloudWatch's alarms and the steps of Application Auto Scaling, one minute at a time.

Only what infra/gpu-worker.yaml uses: the metric math below, alarms with a threshold from above whose missing
data are no breach, and steps of ExactCapacity and ChangeInCapacity. Sources: "Using math expressions with
CloudWatch metrics", "Step scaling policies for Application Auto Scaling".

Metric math takes a value that is missing on one side of two series for 0. What FILL makes of a series without
any value that page does not say: both can be tried (`fills_nothing`).
"""

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

type Series = list[float | None]
"""A value a minute, the newest last; None where there is none."""

LOOKS_BACK = 3
"""Minutes before the evaluated ones in which an alarm looks for a value, where the newest are missing."""


def compute(expression: str, series: Mapping[str, Series], *, fills_nothing: bool = False) -> Series:
    """An expression of metric math. With `fills_nothing`, FILL leaves a series empty that has no value."""
    minutes = len(next(iter(series.values())))

    def value(node: ast.expr) -> Series | float:
        match node:
            case ast.Constant(value=number) if isinstance(number, int | float):
                return float(number)
            case ast.Name(id=name):
                return series[name]
            case ast.BinOp(left=left, op=op, right=right):
                return both(op, value(left), value(right))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return both(op, value(left), value(right))
            case ast.Call(func=ast.Name(id="CEIL"), args=[inner]):
                return [None if each is None else float(math.ceil(each)) for each in as_series(value(inner))]
            case ast.Call(func=ast.Name(id="IF"), args=[condition, yes, no]):
                asked = zip(*(as_series(value(each)) for each in (condition, yes, no)), strict=True)
                return [
                    None if each is None else (one or 0.0) if each else other for each, one, other in asked
                ]
            case ast.Call(func=ast.Name(id="FILL"), args=[inner, ast.Name(id="REPEAT")]):
                return _repeated(as_series(value(inner)))
            case ast.Call(func=ast.Name(id="FILL"), args=[inner, ast.Constant(value=int(number))]):
                found = as_series(value(inner))
                if fills_nothing and set(found) == {None}:
                    return found
                return [float(number) if each is None else each for each in found]
        raise NotImplementedError(ast.dump(node))

    def as_series(found: Series | float) -> Series:
        return found if isinstance(found, list) else list(repeat(found, minutes))

    def both(op: ast.operator | ast.cmpop, one: Series | float, other: Series | float) -> Series:
        pairs = zip(as_series(one), as_series(other), strict=True)
        if isinstance(one, list) and isinstance(other, list):
            return [
                None if pair == (None, None) else _operate(op, pair[0] or 0, pair[1] or 0) for pair in pairs
            ]
        return [None if a is None or b is None else _operate(op, a, b) for a, b in pairs]

    return as_series(value(ast.parse(expression, mode="eval").body))


def _operate(op: ast.operator | ast.cmpop, one: float, other: float) -> float | None:
    match op:
        case ast.Add():
            return one + other
        case ast.Mult():
            return one * other
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


def breach(
    alarm: Mapping[str, Any], metrics: Mapping[tuple[str, str], Series], *, fills_nothing: bool = False
) -> float | None:
    """By how much the newest value is over the alarm's threshold, if the alarm is on."""
    assert alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold"
    assert alarm["TreatMissingData"] == "notBreaching"
    periods = int(alarm["EvaluationPeriods"])
    # It knows no older values.
    seen = {name: series[-periods - LOOKS_BACK :] for name, series in metrics.items()}
    if "Metrics" in alarm:
        series: dict[str, Series] = {}
        for query in alarm["Metrics"]:
            if stat := query.get("MetricStat"):
                assert stat["Period"] == 60
                series[query["Id"]] = seen[stat["Metric"]["MetricName"], stat["Stat"]]
        for query in alarm["Metrics"]:
            if "Expression" in query:
                series[query["Id"]] = compute(query["Expression"], series, fills_nothing=fills_nothing)
        (name,) = [query["Id"] for query in alarm["Metrics"] if query["ReturnData"]]
        found = series[name]
    else:
        found = seen[alarm["MetricName"], alarm["Statistic"]]
    real = [each for each in found if each is not None][-periods:]
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
    fills_nothing: bool = False
    """What FILL makes of a metric that has no value."""
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
        if (over := breach(alarm, late, fills_nothing=self.fills_nothing)) is not None:
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
