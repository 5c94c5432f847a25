"""The web page: what `make page` has built of web/, read into memory when the API starts.

`index.html` is every view of the page: which one, the browser sees by the path. It is answered with a nonce
of its own each time. What the build has put under `assets/` has a hash of its content in its name, and is
kept by browsers for good. Policy: Content Security Policy Level 3, Permissions Policy (both W3C).
"""

import gzip
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from fastapi import APIRouter, HTTPException, Request, Response

from ..errors import Problem
from .context import TheService
from .guard import PUBLIC, GuardedRoute

FOLDER = Path(__file__).parents[1] / "page"
INDEX = "index.html"
ASSETS = "assets/"
VIEWS = ("/", "/t/{id}")

NONCE = "__NONCE__"
"""What stands in the built page for the nonce (`html.cspNonce` in web/vite.config.ts)."""

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
"""Ours, as those of a system differ; what is of none of them is answered as bytes."""

MICROPHONE = "camera=(), geolocation=(), microphone=(self)"


@dataclass(frozen=True, slots=True)
class File:
    """One file of the page: its content as it is and, if that is shorter, by gzip (RFC 1952)."""

    content: bytes
    zipped: bytes | None
    content_type: str
    etag: str
    caching: str

    @classmethod
    def read(cls, folder: Path, name: str) -> Self:
        """The file of this name, its path in the folder."""
        content = (folder / name).read_bytes()
        # No time in it: the same file is the same bytes, whichever process sends it.
        zipped = gzip.compress(content, mtime=0)
        return cls(
            content=content,
            zipped=zipped if len(zipped) < len(content) else None,
            content_type=TYPES.get(Path(name).suffix, "application/octet-stream"),
            etag=hashlib.sha256(content).hexdigest()[:32],
            caching="public, max-age=31536000, immutable" if name.startswith(ASSETS) else "no-cache",
        )


@cache
def read(folder: Path) -> Mapping[str, File]:
    """The files of a built page by their paths in its folder; none, if it was not built."""
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    return {name: File.read(folder, name) for name in names}


def router(files: Mapping[str, File]) -> APIRouter:
    """The routes of the page, for whom one need not sign in. They are no part of the OpenAPI document.

    Those of its views answer with Problem `page_not_built` if there is no page.
    """
    text = files[INDEX].content.decode() if INDEX in files else None
    routes = APIRouter(route_class=GuardedRoute)
    # Whoever may GET may ask for the headers alone (RFC 9110, 9.3.2).
    add = partial(
        routes.add_api_route, methods=["GET", "HEAD"], openapi_extra=PUBLIC, include_in_schema=False
    )

    async def view(request: Request, service: TheService) -> Response:
        if text is None:
            detail = "The page was not built here. Build it with `make page`, then start the API again."
            raise Problem("page_not_built", detail)
        nonce = secrets.token_urlsafe(16)
        headers = {
            "Content-Security-Policy": _policy(nonce, service.presigner.origin),
            "Permissions-Policy": MICROPHONE,
            "Content-Type": TYPES[".html"],
        }
        return _response(request, text.replace(NONCE, nonce).encode(), headers)

    async def file(request: Request) -> Response:
        path: str = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        found = files.get(path.removeprefix("/"))
        if found is None:
            raise HTTPException(404)
        return _answer(request, found)

    for path in VIEWS:
        add(path, view)
    for name in files:
        if name != INDEX and not name.startswith(ASSETS):
            add(f"/{name}", file)
    add(f"/{ASSETS}{{name:path}}", file)
    return routes


def _policy(nonce: str, bucket_origin: str) -> str:
    """What the page may do: run what the API serves, and talk to the API and to the bucket."""
    bucket = _source(bucket_origin)
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            # Some of Uppy's and the waveform's styles are made as they run.
            f"style-src 'self' 'nonce-{nonce}'",
            "img-src 'self' data: blob:",
            "font-src 'self'",
            f"connect-src 'self' {bucket}",
            f"media-src 'self' blob: {bucket}",
            "manifest-src 'self'",
            "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


def _source(origin: str) -> str:
    """An origin as a policy has it, which cannot name an IPv6 address: of one, it is the scheme alone."""
    parts = urlsplit(origin)
    return f"{parts.scheme}:" if ":" in (parts.hostname or "") else origin


def _answer(request: Request, file: File) -> Response:
    """A file as the request wants it: by gzip or not (RFC 9110, 12.5.3), or that it has not changed."""
    zipped = file.zipped is not None and _takes_gzip(request.headers.get("accept-encoding", ""))
    # The two are different bytes, so a strong ETag must tell them apart (RFC 9110, 8.8.3.3).
    etag = f'"{file.etag}-gzip"' if zipped else f'"{file.etag}"'
    headers = {"ETag": etag, "Cache-Control": file.caching, "Vary": "Accept-Encoding"}
    known = request.headers.get("if-none-match", "")
    if etag in (each.strip().removeprefix("W/") for each in known.split(",")):
        return Response(status_code=304, headers=headers)
    headers["Content-Type"] = file.content_type
    if zipped:
        headers["Content-Encoding"] = "gzip"
    return _response(request, file.zipped if zipped and file.zipped else file.content, headers)


def _response(request: Request, body: bytes, headers: dict[str, str]) -> Response:
    """An answer, without its body where only the headers are asked for."""
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(len(body))})
    return Response(body, headers=headers)


def _takes_gzip(accepted: str) -> bool:
    for each in accepted.lower().split(","):
        coding, _, weight = each.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
