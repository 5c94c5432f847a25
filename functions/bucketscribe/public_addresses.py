"""Requests to where a stranger's URL points: to public addresses only, and to the very one that was judged.

Whoever may name a URL would else reach, through us, what only our own network reaches: metadata of the cloud,
databases, the bucket. A look at the name says nothing, as it may have another address a moment later. So each
connection looks its name up itself, once, and connects to an address of that answer that it has judged. No
proxy is asked, as it would look the name up again; TLS is checked against the name; nothing is redirected.

What is public: the IANA special-purpose registries, as in Python's `ipaddress`; addresses that carry another
(RFC 4291, 2.5.5.2; RFC 6052) are judged by that one. One must not wait for ever for those who answer slowly
by intent: to connect, to get the head of an answer and each piece of its body takes a bounded time; how many
pieces may be how small is up to who reads them.
"""

import http.client
import logging
import math
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple, override
from urllib.parse import quote, urlsplit

import urllib3
from botocore.httpsession import get_cert_path
from urllib3.connection import HTTPConnection, HTTPSConnection

type Address = IPv4Address | IPv6Address

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0
READ_SECONDS = 30.0
MOST_ADDRESSES = 4
"""So many of a name's addresses are tried."""

MOST_CHARACTERS = 2048
"""In a URL."""

BROKEN = (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError)
"""What sending and reading raise where a connection breaks."""

_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
# A public address by which the machines of one cloud reach their host, and nobody else does.
_OF_THE_HOST = frozenset({IPv4Address("168.63.129.16")})
_SCHEMES = {"http": 80, "https": 443}


class InvalidUrl(ValueError):
    """A text that is no URL we ask; the message says why."""


class AddressRefused(Exception):
    """The host has no address that may be asked."""


class NoAnswer(Exception):
    """The host was not found, did not answer, or broke off; the message says which."""


class WebAddress(NamedTuple):
    """A URL taken apart, all of it ASCII. `target` is what a request asks for; `host` has no brackets."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def url(self) -> str:
        """The URL, without a fragment."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _SCHEMES[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.target}"


def web_address(text: str) -> WebAddress:
    """Take an http or https URL apart. Raises InvalidUrl, also where it has a user name or a password.

    Those would be kept, shown and logged with the URL.
    """
    if len(text) > MOST_CHARACTERS:
        raise InvalidUrl(f"a URL may have {MOST_CHARACTERS} characters at most")
    if text != text.strip() or any(ord(sign) < 0x20 or ord(sign) == 0x7F or sign == "\\" for sign in text):
        raise InvalidUrl("a URL has neither control characters nor backslashes, nor space around it")
    try:
        parts = urlsplit(text)
        scheme, named, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidUrl(f"this is no URL: {error}") from None
    if scheme not in _SCHEMES:
        raise InvalidUrl("the URL must begin with https:// or http://")
    if "@" in parts.netloc:
        raise InvalidUrl("the URL may have neither a user name nor a password")
    if port == 0:
        raise InvalidUrl("the URL's port is none that can be connected to")
    address = WebAddress(scheme, _host(named), port or _SCHEMES[scheme], _target(parts.path, parts.query))
    if len(address.url) > MOST_CHARACTERS:
        raise InvalidUrl(f"a URL may have {MOST_CHARACTERS} characters at most, each %XX counted as three")
    return address


def _target(path: str, query: str) -> str:
    """What a request asks for. What is encoded already stays as it is."""
    try:
        path = quote(path or "/", safe="/%:@!$&'()*+,;=~-._")
        query = quote(query, safe="/%:@!$&'()*+,;=~-._?[]")
    except UnicodeError:
        raise InvalidUrl("the URL has half of a character") from None
    return f"{path}?{query}" if query else path


def _host(named: str) -> str:
    """A host's name as it is looked up and told: in ASCII and lower case."""
    if ":" in named:
        try:
            address = IPv6Address(named)
        except ValueError:
            address = None
        # A scope means something on one machine only.
        if address is None or address.scope_id is not None:
            raise InvalidUrl("the URL's host is not an IPv6 address")
        return str(address)
    try:
        host = named.encode("idna").decode().lower().rstrip(".") if named else ""
    except UnicodeError:
        host = ""
    if not host or any(not (sign.isalnum() or sign in "-._") for sign in host):
        raise InvalidUrl("the URL has no host that can be looked up")
    return host


class Hosts:
    """Hosts as a setting names them: by name, `*.example.org`, `*` for any, by address or by network."""

    def __init__(self, named: Iterable[str]) -> None:
        self._names: set[str] = set()
        self._endings: list[str] = []
        self._networks: list[IPv4Network | IPv6Network] = []
        for entry in named:
            try:
                self._networks.append(ip_network(entry, strict=False))
            except ValueError:
                if entry == "*" or entry.startswith("*."):
                    self._endings.append(entry[1:].lower().rstrip("."))
                else:
                    self._names.add(entry.lower().rstrip("."))

    def has_name(self, host: str) -> bool:
        """Whether a host is meant by its name, or by the address that stands in place of one."""
        if host in self._names or any(host.endswith(ending) for ending in self._endings):
            return True
        with suppress(ValueError):
            return self.has_address(ip_address(host))
        return False

    def has_address(self, address: Address) -> bool:
        """Whether an address is named, or lies in a network that is."""
        return any(address in network for network in self._networks)


def carried(address: Address) -> Address:
    """The IPv4 address that is asked in truth by way of an IPv6 one; else the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether everybody on the Internet can reach this address, and it is one host's."""
    address = carried(address)
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    return address.is_global and not address.is_multicast and address not in _OF_THE_HOST


class _Judging:
    """What both kinds of connections do: look the name up, and connect to an address that was judged."""

    private: Hosts

    # What urllib3's own way of connecting is replaced by; as its SOCKS connections do it.
    def _new_conn(self) -> socket.socket:
        connection: Any = self
        host, port = connection.host, connection.port
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        open_to_all = self.private.has_name(host)
        fit = [entry for entry in found if open_to_all or self._may_ask(entry[4][0])]
        if not fit:
            raise AddressRefused(f"{host} has no public address")
        failure: OSError | None = None
        for family, kind, protocol, _, place in fit[:MOST_ADDRESSES]:
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(connection.timeout)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.connect(place)
                # 0.0.0.0, say, is another one once it is connected.
                if not open_to_all and not self._may_ask(sock.getpeername()[0]):
                    raise AddressRefused(f"{host} has no public address")
            except OSError as error:
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise failure or OSError("there is no address")

    def _may_ask(self, text: Any) -> bool:
        address = ip_address(str(text))
        known = self.private
        return is_public(address) or known.has_address(address) or known.has_address(carried(address))


class _Plain(_Judging, HTTPConnection):
    @override
    def __init__(self, private: Hosts, **how: Any) -> None:
        self.private = private
        super().__init__(**how)


class _Secure(_Judging, HTTPSConnection):
    @override
    def __init__(self, private: Hosts, **how: Any) -> None:
        self.private = private
        super().__init__(ssl_context=_tls(), **how)


@cache
def _tls() -> ssl.SSLContext:
    """The machine's certificates, and those that come with the SDK where it has none."""
    context = ssl.create_default_context()
    context.load_verify_locations(get_cert_path(True))
    return context


class _Watch:
    """Breaks a connection off that keeps its reader for too long.

    Time-outs of a socket are not enough: each byte of a head, or of what stands between two chunks of a body,
    that comes by itself would be in time.
    """

    def __init__(self, watched: socket.socket) -> None:
        self._watched = socket.socket(fileno=os.dup(watched.fileno()))
        self._changed = threading.Condition()
        self._ends = math.inf
        self._late = self._closed = False
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._thread.start()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """What has to be done in that time; raises TimeoutError if it was not."""
        with self._changed:
            self._ends = time.monotonic() + seconds
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._ends = math.inf
        if self._late:
            # What breaks off looks like a short one.
            raise TimeoutError

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._watched.close()

    def _look(self) -> None:
        with self._changed:
            while not self._closed:
                left = self._ends - time.monotonic()
                if left <= 0:
                    self._late = True
                    with suppress(OSError):
                        self._watched.shutdown(socket.SHUT_RDWR)
                    return
                self._changed.wait(None if left == math.inf else left)


class Answer:
    """What a server answers; the body is read as it is, nothing of it is decoded."""

    def __init__(self, response: urllib3.BaseHTTPResponse, watch: _Watch, read_seconds: float) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._watch = watch
        self._read_seconds = read_seconds

    def read(self, most: int) -> bytes:
        """Some bytes of the body, at most so many; none at its end. Raises one of `BROKEN`."""
        with self._watch.within(self._read_seconds):
            return self._response.read1(most)


class PublicWeb:
    """The web without what is private, but for the hosts that may be. For any number of threads."""

    def __init__(
        self,
        private_hosts: Iterable[str],
        *,
        connect_seconds: float = CONNECT_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        self._private = Hosts(private_hosts)
        self._connect_seconds = connect_seconds
        self._answer_seconds = answer_seconds
        self._read_seconds = read_seconds
        # Of a head that it cannot read it warns with the whole URL, which may be a secret.
        logging.getLogger("urllib3.connection").setLevel(logging.ERROR)

    @contextmanager
    def ask(
        self, method: str, address: WebAddress, headers: Mapping[str, str], body: bytes = b""
    ) -> Iterator[Answer]:
        """Make one request on a connection of its own; the answer's body is read in the block.

        Raises AddressRefused, and NoAnswer.
        """
        kind = _Secure if address.scheme == "https" else _Plain
        connection = kind(self._private, host=address.host, port=address.port, timeout=self._connect_seconds)
        with ExitStack() as ending:
            ending.callback(connection.close)
            try:
                connection.connect()
                connection.timeout = self._read_seconds
                connection.sock.settimeout(self._read_seconds)
                watch = ending.enter_context(closing(_Watch(connection.sock)))
                with watch.within(self._answer_seconds):
                    response = _sent(connection, method, address.target, headers, body)
            except (*BROKEN, UnicodeError) as error:
                raise NoAnswer(_reason(error)) from error
            yield Answer(response, watch, self._read_seconds)


def _sent(
    connection: _Plain | _Secure, method: str, target: str, headers: Mapping[str, str], body: bytes
) -> urllib3.BaseHTTPResponse:
    connection.request(
        method,
        target,
        body=body or None,
        headers={"user-agent": "bucketscribe", "accept-encoding": "identity", **headers},
        preload_content=False,
        decode_content=False,
        enforce_content_length=True,
    )
    return connection.getresponse()


def _reason(error: Exception) -> str:
    """What went wrong, without the addresses of our own network, of which a system's message may tell."""
    match error:
        case socket.gaierror() | UnicodeError():
            return "its name cannot be looked up"
        case TimeoutError() | urllib3.exceptions.TimeoutError():
            return "it does not answer in time"
        case ConnectionRefusedError():
            return "it refuses the connection"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not good: {error.verify_message}"
        case ssl.SSLError() | urllib3.exceptions.SSLError():
            return "it does not speak TLS as it should"
    return f"the connection broke ({type(error).__name__})"
