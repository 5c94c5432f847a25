"""Whether the lines are what they say: how long the way is, how much passes, and how much is lost.

    sudo .venv/bin/python -m benchmarks.line

Over each line go UDP datagrams with the time in them, at half its rate and then at twice its rate; then one
TCP connection sends for five seconds. Prints what arrived, counted at the far end and not by the line.
"""

import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.line import FAR, KINDS, Line, NoLine, compiled, drawn, move_to_the_far_end, tcp_settings

PORT = 9000
PAYLOAD, PACKET = 1472, 1500
"""Bytes of a datagram, and of its packet with the heads of UDP and IP."""
SECONDS = 2
HEAD = struct.Struct(">Q")
SO_RCVBUFFORCE = 33
"""socket(7); Python has no name for it."""

DATAGRAMS = f"""
import socket, struct, sys, time
count, rate = int(sys.argv[1]), float(sys.argv[2])
sender, rest = socket.socket(type=socket.SOCK_DGRAM), bytes({PAYLOAD} - 8)
begun = time.monotonic_ns()
for number in range(count):
    while time.monotonic_ns() < begun + number * 1e9 / rate:
        pass
    sender.sendto(struct.pack(">Q", time.monotonic_ns()) + rest, ("{FAR}", {PORT}))
"""

STREAM = f"""
import socket, time
begun = time.monotonic()
with socket.create_connection(("{FAR}", {PORT})) as connection:
    print(1000 * (time.monotonic() - begun))
    while time.monotonic() < begun + 5:
        connection.sendall(bytes(65536))
"""

Arrivals = Sequence[tuple[int, int]]
"""When each datagram was sent and when it came, in nanoseconds of the same clock."""


def datagrams(line: Line, rate: float) -> tuple[int, Arrivals]:
    """Send for some seconds, so many a second; how many, and what arrived."""
    count = int(SECONDS * rate)
    arrived: list[tuple[int, int]] = []
    with socket.socket(type=socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 2**26)
        receiver.bind(("", PORT))
        receiver.settimeout(1)
        program = line.near(sys.executable, "-c", DATAGRAMS, str(count), str(rate))
        with subprocess.Popen(program) as sender:
            try:
                while sender.poll() is None or arrived[-1][1] > time.monotonic_ns() - 1e9:
                    sent = HEAD.unpack_from(receiver.recv(PAYLOAD))
                    arrived.append((sent[0], time.monotonic_ns()))
            except TimeoutError:
                pass
    return count, arrived


def stream(line: Line) -> tuple[float, float]:
    """Milliseconds until a TCP connection stood, and the bits a second that came through it."""
    with socket.create_server(("", PORT)) as server:
        received, spent = 0, 0.0

        def receive() -> None:
            nonlocal received, spent
            connection, _ = server.accept()
            begun = time.monotonic()
            with connection:
                while block := connection.recv(2**20):
                    received += len(block)
            spent = time.monotonic() - begun

        thread = threading.Thread(target=receive, daemon=True)
        thread.start()
        command = line.near(sys.executable, "-c", STREAM)
        told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        thread.join()
        return float(told.stdout), received * 8 / spent


def check(name: str, line: Line) -> None:
    """One line of the table."""
    full = line.kind.bits_per_second / 8 / PACKET
    sent, half = datagrams(line, full / 2)
    lost = 1 - len(half) / sent
    ways = sorted((came - went) / 1e6 for went, came in half)
    _, much = datagrams(line, full * 2)
    # The second half: the queue is full by then.
    steady = [came for _, came in much][len(much) // 2 :]
    passed = (len(steady) - 1) * PACKET * 8 / (steady[-1] - steady[0]) * 1e9
    connected, tcp = stream(line)
    late = ways[len(ways) * 99 // 100]
    print(
        f"{name:14} one way {statistics.median(ways):5.2f} ms, 99 of 100 below {late:5.2f}   "
        f"lost {lost:7.3%} of {sent}   passes {passed / 1e6:6.1f} Mbit/s   "
        f"TCP: connected in {connected:5.1f} ms, one stream {tcp / 1e6:5.0f} Mbit/s",
        flush=True,
    )


def main() -> None:
    """Check every line."""
    with tempfile.TemporaryDirectory() as name:
        program = compiled(Path(name))
        move_to_the_far_end()
        print(tcp_settings())
        for kind, wanted in KINDS.items():
            with drawn(program, wanted) as line:
                check(kind, line)


if __name__ == "__main__":
    try:
        main()
    except NoLine as reason:
        sys.exit(str(reason))
