"""Which addresses a stranger's URL can reach, against servers of this machine."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from bucketscribe import public_addresses
from bucketscribe.public_addresses import (
    BROKEN,
    AddressRefused,
    Hosts,
    InvalidUrl,
    NoAnswer,
    PublicWeb,
    is_public,
    web_address,
)

from tests.website import Website

PRIVATE = [
    *("127.0.0.1", "127.255.0.9", "0.0.0.0", "0.1.2.3", "10.1.2.3", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.192", "198.18.0.1"),
    *("192.0.2.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2002:a00:1::1"),
    *("2001:0:7f00:1::", "fe80::1", "fe80::1%lo", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1"),
    *("2001:db8::1", "100::1", "5f00::1"),
]
PUBLIC = ["1.1.1.1", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]


@pytest.fixture
def site() -> Iterator[Website]:
    with Website() as site:
        site.put("/talk", b"hello")
        yield site


def text_of(web: PublicWeb, url: str) -> bytes:
    with web.ask("GET", web_address(url), {}) as response:
        return b"".join(iter(lambda: response.read(65536), b""))


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_everybodys_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_not_refused(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "LOCALHOST.", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0"),
        *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "127.0.0.1."),
    ],
)
def test_this_machine_is_refused_however_it_is_written(site: Website, host: str) -> None:
    with pytest.raises(AddressRefused):
        text_of(PublicWeb(()), f"http://{host}:{site.port}/talk")
    assert site.seen == []


@pytest.mark.parametrize("named", ["127.0.0.1", "127.0.0.0/8", "localhost", "*"])
def test_what_may_be_private_is_asked(site: Website, named: str) -> None:
    assert text_of(PublicWeb((named,)), f"http://localhost:{site.port}/talk") == b"hello"


def test_a_name_is_allowed_by_its_ending_only_where_that_is_asked_for() -> None:
    hosts = Hosts(("example.org", "*.example.net", "10.0.0.0/8"))
    assert [hosts.has_name(name) for name in ("example.org", "a.example.net", "10.9.8.7")] == [True] * 3
    others = ("a.example.org", "example.net", "badexample.net", "example.org.evil.test", "11.0.0.1")
    assert [hosts.has_name(name) for name in others] == [False] * 5


class Names:
    """Answers of a name server, one after the other; the last one again and again."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, host: str, port: int, **how: Any) -> list[Any]:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer]


def test_a_name_that_changes_its_address_after_it_was_judged_is_not_looked_up_again(
    site: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(["127.0.0.2"], ["127.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", names)
    assert text_of(PublicWeb(("127.0.0.2",)), f"http://fickle.test:{site.port}/talk") == b"hello"
    assert [seen.address for seen in site.seen] == ["127.0.0.2"]
    assert names.asked == 1
    with pytest.raises(AddressRefused):
        text_of(PublicWeb(("127.0.0.2",)), f"http://fickle.test:{site.port}/talk")


def test_of_a_name_with_a_private_and_an_allowed_address_only_the_allowed_one_is_asked(
    site: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Names(["127.0.0.1", "127.0.0.3"]))
    assert text_of(PublicWeb(("127.0.0.3",)), f"http://both.test:{site.port}/talk") == b"hello"
    assert [seen.address for seen in site.seen] == ["127.0.0.3"]


def test_where_one_address_does_not_answer_the_next_is_asked(
    site: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.4", 0))
        names = Names(["127.0.0.4", "127.0.0.1"])
        names_of = names("", site.port)
        names_of[0] = (*names_of[0][:4], closed.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: names_of)
        assert text_of(PublicWeb(("127.0.0.0/8",)), f"http://two.test:{site.port}/talk") == b"hello"


def test_no_proxy_is_asked(site: Website, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert text_of(PublicWeb(("localhost",)), f"http://localhost:{site.port}/talk") == b"hello"


@pytest.fixture
def secure(site: Website, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Website]:
    monkeypatch.setenv("SSL_CERT_FILE", str(site.by_tls(tmp_path, "good.test")))
    public_addresses._tls.cache_clear()
    monkeypatch.setattr(socket, "getaddrinfo", Names(["127.0.0.1"]))
    yield site
    public_addresses._tls.cache_clear()


def test_tls_is_checked_against_the_name_and_not_the_address(secure: Website) -> None:
    web = PublicWeb(("127.0.0.1",))
    assert text_of(web, f"https://good.test:{secure.port}/talk") == b"hello"
    with pytest.raises(NoAnswer, match="certificate"):
        text_of(web, f"https://other.test:{secure.port}/talk")


def test_a_certificate_nobody_knows_is_refused(secure: Website, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    public_addresses._tls.cache_clear()
    with pytest.raises(NoAnswer, match="certificate"):
        text_of(PublicWeb(("127.0.0.1",)), f"https://good.test:{secure.port}/talk")


def test_a_head_that_comes_byte_by_byte_is_not_waited_for() -> None:
    ended = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Long: y\r\n" * 1000:
                try:
                    connection.send(bytes([byte]))
                except OSError:
                    break
                time.sleep(0.01)
        ended.set()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=drip, args=(listening,), daemon=True).start()
        begun = time.monotonic()
        with pytest.raises(NoAnswer):
            text_of(
                PublicWeb(("127.0.0.1",), answer_seconds=0.3),
                f"http://127.0.0.1:{listening.getsockname()[1]}/",
            )
        assert time.monotonic() - begun < 5
        assert ended.wait(10)


@pytest.mark.parametrize(
    "before",
    [b"\r\n", b"\r\n5;", b"\r\n0\r\nA: b\r\n"],
    ids=["length", "extension of a chunk", "trailers"],
)
def test_what_stands_around_a_body_and_does_not_end_is_not_waited_for(before: bytes) -> None:
    coding = b"Content-Length: 5" if before == b"\r\n" else b"Transfer-Encoding: chunked"
    ended = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + coding + b"\r\n" + before)
            while coding.startswith(b"T"):
                connection.send(b"x" if b";" in before else b"C: d\r\n")
                time.sleep(0.01)
            connection.recv(65536)
            connection.recv(1)
        ended.set()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=drip, args=(listening,), daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        web = PublicWeb(("127.0.0.1",), read_seconds=0.3)
        begun = time.monotonic()
        with web.ask("GET", web_address(url), {}) as answer, pytest.raises(BROKEN):
            answer.read(65536)
        assert time.monotonic() - begun < 5
        assert ended.wait(10)


def test_who_is_slow_to_read_is_not_taken_for_a_slow_server(site: Website) -> None:
    site.put("/long", b"x" * 8 * 1024**2)
    web = PublicWeb(("127.0.0.1",), answer_seconds=0.2, read_seconds=0.2)
    with web.ask("GET", web_address(f"{site.url}/long"), {}) as answer:
        got = len(answer.read(1000))
        time.sleep(0.5)
        while block := answer.read(1024**2):
            got += len(block)
    assert got == 8 * 1024**2


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.org/a", "https"),
        ("file:///etc/passwd", "https"),
        ("example.org/a.wav", "https"),
        ("http://user:secret@example.org/", "password"),
        ("http://user@example.org/", "password"),
        ("http:///a.wav", "host"),
        ("http://exa mple.org/", "host"),
        ("http://example.org\\@127.0.0.1/", "backslash"),
        ("http://example.org/\r\nX: y", "control"),
        (" http://example.org/", "space"),
        ("http://[::1", "URL"),
        ("http://[fe80::1%25lo]/", "host"),
        ("http://example.org:99999/", "URL"),
        ("http://example.org:0/", "port"),
        ("http://" + "a" * 64 + ".org/", "host"),
        ("http://a..b/", "host"),
        ("http://example.org/" + "a" * 2048, "2048"),
        ("http://example.org/" + "ü" * 400, "2048"),
        ("http://example.org/\ud800", "half"),
        ("http://example.org/?\udc00", "half"),
    ],
)
def test_what_is_no_url_we_ask_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(InvalidUrl, match=why):
        web_address(url)


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("HTTPS://Example.ORG", "https://example.org/"),
        ("https://example.org:443/a%20b?x=%2F&y=ü#part", "https://example.org/a%20b?x=%2F&y=%C3%BC"),
        ("http://bücher.example/täl k.wav", "http://xn--bcher-kva.example/t%C3%A4l%20k.wav"),
        ("http://[2001:DB8::1]:8080/x", "http://[2001:db8::1]:8080/x"),
    ],
)
def test_a_url_is_asked_for_in_one_way_of_writing(url: str, plain: str) -> None:
    assert web_address(url).url == plain
