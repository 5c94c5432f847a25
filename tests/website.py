"""A web server that tests fetch from: pages with ranges, ETags and redirects, and connections that break."""

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.unit.standins import Handler, Server

BLOCK = 64 * 1024


@dataclass
class Page:
    """What lies at a path. `breaks`: after how many bytes of its body each of the first answers ends."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    length: bool = True
    most: int | None = None
    """No range is longer than this, whatever was asked for."""
    breaks: list[int] = field(default_factory=list)
    before: Callable[[int], None] = lambda sent: None
    """Called before each block of the body is sent, with the bytes sent so far."""


@dataclass(frozen=True)
class Seen:
    """A request as it came: to which of our addresses, and with which headers, in lower case."""

    method: str
    path: str
    address: str
    headers: dict[str, str]
    body: bytes


class Website(Server):
    """Pages by path, on every address of the loopback."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.pages: dict[str, Page] = {}
        self.seen: list[Seen] = []

    def server_bind(self) -> None:
        self.server_address = ("", 0)
        super().server_bind()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def put(self, path: str, body: bytes = b"", status: int = 200, **how: object) -> Page:
        """Have a page lie there."""
        page = Page(body, status, **how)  # type: ignore[arg-type]
        self.pages[path] = page
        return page

    def by_tls(self, folder: Path, *names: str) -> Path:
        """Speak TLS from now on, with a certificate for these names; the file of who signed it."""
        authority, key = _authority()
        certificate, own_key = _certificate(authority, key, names)
        files = {"authority.pem": authority, "own.pem": certificate}
        for name, made in files.items():
            (folder / name).write_bytes(made.public_bytes(serialization.Encoding.PEM))
        no_encryption = serialization.NoEncryption()
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        (folder / "own.key").write_bytes(own_key.private_bytes(pem, pkcs8, no_encryption))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "own.pem", folder / "own.key")
        self.socket = context.wrap_socket(self.socket, server_side=True)
        return folder / "authority.pem"

    def __enter__(self) -> Self:
        self.url = f"http://127.0.0.1:{self.port}"
        return super().__enter__()


class _Handler(Handler):
    server: Website

    def do_GET(self) -> None:  # noqa: N802 -- its name in the base
        self._answer()

    def do_POST(self) -> None:  # noqa: N802 -- as above
        self._answer()

    def _answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        address = str(self.connection.getsockname()[0])
        self.server.seen.append(Seen(self.command, self.path, address, headers, self.body()))
        page = self.server.pages.get(self.path)
        if page is None:
            self.answer(404, b"nothing here")
            return
        status, body, start = page.status, page.body, 0
        wanted = headers.get("range")
        valid = headers.get("if-range") in (None, page.headers.get("ETag"), page.headers.get("Last-Modified"))
        if wanted and page.ranges and valid and status == 200:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            status = 206
        self.send_response(status)
        for name, value in page.headers.items():
            self.send_header(name, value)
        end = len(body) if status != 206 or page.most is None else min(start + page.most, len(body))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(body)}")
        if page.length:
            self.send_header("Content-Length", str(end - start))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        ends = start + page.breaks.pop(0) if page.breaks else end
        while start < min(ends, end):
            page.before(start)
            sent = body[start : min(start + BLOCK, ends, end)]
            self.wfile.write(sent)
            start += len(sent)
        if ends < end:
            self.wfile.flush()
            self.reset()


def _authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority of the tests")])
    made = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(*(False,) * 5, True, True, False, False)
    made = made.add_extension(identifier, False).add_extension(usage, True)
    return made.sign(key, hashes.SHA256()), key


def _certificate(
    authority: x509.Certificate, signing: ec.EllipticCurvePrivateKey, names: tuple[str, ...]
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    known = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
    alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
    made = _builder(subject, authority.subject, key).add_extension(alternatives, False)
    made = made.add_extension(known, False)
    return made.sign(signing, hashes.SHA256()), key


def _general(name: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))


class Gate:
    """Lets the bytes up to a place through, and the rest once it is opened."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.reached = threading.Event()
        self._opened = threading.Event()

    def __call__(self, sent: int) -> None:
        if sent >= self.place:
            self.reached.set()
            self._opened.wait(60)

    def open(self) -> None:
        self._opened.set()
