"""Cold starts of the Lambda functions: from an invocation that finds no environment to its answer.

Each start is a new process of Lambda's Runtime Interface Emulator with AWS's runtime client, on the built
package, in front of SeaweedFS and moto's SQS; the emulator and its own start are part of it, SnapStart is
not. `load` is what Lambda reports as Init Duration, `CPU` what the runtime's process took for all of it: that
changes least with what else the machine does. Ends with 1 if the API takes longer than a second.

    .venv/bin/python -m benchmarks.cold_start [starts]
"""

import json
import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from bucketscribe.auth import Scope
from bucketscribe.bucket import Bucket
from bucketscribe.keys import Keys

from tests.deploy import runtime
from tests.deploy.runtime import Function
from tests.servers import running

EVENTS = Path("tests/deploy/events")
STARTS = 7
API_SECONDS = 1.0
OWNER = "somebody-0123456789abcdef"

CASES = (
    ("api", "api-health"),
    ("api", "api-begin"),
    ("completion", "completion-test-event"),
    ("sweep", "sweep-schedule"),
    ("deadletters", "deadletters-no-batch"),
)


def start(function: Function, event: Any) -> tuple[float, ...]:
    """Seconds to load, to the first answer, and of the second one; and of the CPU, for both."""
    times = []
    for _ in range(2):
        begun = time.perf_counter()
        answer = function.invoke(event)
        times.append(time.perf_counter() - begun)
        if "errorType" in answer or answer.get("statusCode", 200) != 200:
            raise RuntimeError(answer)
    loaded = re.search(r"INIT REPORT\(durationMs: ([0-9.]+)\)", function.log.read_text())
    return float(loaded[1]) / 1000 if loaded else 0.0, *times, cpu_seconds_of_child(function.pid)


def cpu_seconds_of_child(pid: int) -> float:
    """CPU seconds of the runtime that the emulator has started, as proc(5) tells them."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def main() -> int:
    starts = int(sys.argv[1]) if len(sys.argv) > 1 else STARTS
    slow = False
    with TemporaryDirectory() as name, running(Path(name) / "servers") as servers:
        folder = Path(name)
        package = runtime.build(folder)
        size = sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
        print(f"package: {size / 1024**2:.0f} MiB")
        key = Keys(Bucket.connect(servers.settings)).new("benchmark", OWNER, tuple(Scope), None)
        environment = {
            name: value
            for name, value in servers.environment.items()
            if name.startswith(("AWS_", "BUCKETSCRIBE_"))
        } | {"BUCKETSCRIBE_AUTH": "keys"}
        columns = [f"{column:>15}" for column in ("load", "first answer", "second", "CPU")]
        print(f"{'function':13}{'event':24}", *columns, "  ms, min / median", sep="")
        for handler, event in CASES:
            request = json.loads((EVENTS / f"{event}.json").read_text().replace("API_KEY", key))
            runs = []
            for _ in range(starts):
                with runtime.running(package, handler, environment, folder / "log") as function:
                    runs.append(start(function, request))
            columns = [
                f"{f'{min(times) * 1000:.0f} / {median(times) * 1000:.0f}':>15}"
                for times in zip(*runs, strict=True)
            ]
            print(f"{handler:13}{event:24}", *columns, sep="")
            slow |= handler == "api" and median(run[1] for run in runs) > API_SECONDS
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
