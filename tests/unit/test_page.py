"""The page as the API serves it: what may run there, what browsers may keep, and for whom it is."""

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from bucketscribe.api import page
from bucketscribe.api.app import create_app
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.up.processes import bucket_origins
from fastapi.testclient import TestClient

HERE = "http://127.0.0.1:8000"
BUCKET = "http://127.0.0.1:1"
INDEX = (
    '<!doctype html><meta property="csp-nonce" nonce="__NONCE__">'
    '<script type="module" src="/assets/index-a1.js" nonce="__NONCE__"></script>'
)
SCRIPT = "export const word = 'again';\n" * 100
ICON = b"\x89PNG\r\n\x1a\n"
BUILT = {
    "index.html": INDEX.encode(),
    "assets/index-a1.js": SCRIPT.encode(),
    "favicon.png": ICON,
    "site.webmanifest": b"{}",
}


def served(**changed: object) -> TestClient:
    """The API with other settings than a laptop's."""
    known = {"secret": "a secret for tests only", "s3_endpoint": BUCKET, "queue_url": f"{BUCKET}/q"}
    return TestClient(
        create_app(Service.connect(Settings(**known | changed))),  # type: ignore[arg-type]
        HERE,
        follow_redirects=False,
    )


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page that was built; its folder."""
    for name, content in BUILT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(page, "FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def api(built: Path) -> Iterator[TestClient]:
    with served() as client:
        yield client


def policy(client: TestClient) -> dict[str, str]:
    """The page's policy, by directive."""
    told = client.get("/").headers["content-security-policy"]
    return {name: values for name, _, values in (each.partition(" ") for each in told.split("; "))}


# What may run there


def test_the_page_runs_what_the_api_serves_and_talks_to_it_and_the_bucket(api: TestClient) -> None:
    said = policy(api)
    nonce = re.fullmatch(r"'self' ('nonce-[\w-]{22}')", said["style-src"])
    assert nonce is not None
    assert said == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": f"'self' {nonce[1]}",
        "img-src": "'self' data: blob:",
        "font-src": "'self'",
        "connect-src": f"'self' {BUCKET}",
        "media-src": f"'self' blob: {BUCKET}",
        "manifest-src": "'self'",
        "form-action": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }


def test_each_answer_has_a_nonce_of_its_own_in_the_policy_and_in_the_page(api: TestClient) -> None:
    nonces = set()
    for _ in range(3):
        answer = api.get("/")
        inside = set(re.findall('nonce="([^"]*)"', answer.text))
        assert len(inside) == 1
        assert f"'nonce-{min(inside)}'" in answer.headers["content-security-policy"]
        nonces |= inside
    assert len(nonces) == 3


@pytest.mark.parametrize(
    ("settings", "source"),
    [
        ({"s3_public_endpoint": "https://s3.example.com"}, "https://s3.example.com"),
        ({"s3_public_endpoint": "https://s3.example.com:443/root"}, "https://s3.example.com"),
        (
            {"s3_endpoint": None, "region": "eu-central-1", "bucket": "talks"},
            "https://talks.s3.eu-central-1.amazonaws.com",
        ),
        (
            {"s3_public_endpoint": "https://s3.example.com", "s3_path_style": False, "bucket": "talks"},
            "https://talks.s3.example.com",
        ),
        # A policy has no way to write such an address.
        ({"s3_endpoint": "http://[::1]:8333"}, "http:"),
    ],
)
def test_the_bucket_is_where_presigned_urls_point_at(
    built: Path, settings: dict[str, object], source: str
) -> None:
    said = policy(served(**settings))
    assert said["connect-src"] == f"'self' {source}"
    assert said["media-src"] == f"'self' blob: {source}"


def test_only_the_page_may_ask_for_the_microphone(api: TestClient) -> None:
    assert "microphone=(self)" in api.get("/").headers["permissions-policy"]
    for path in ("/assets/index-a1.js", "/docs", "/transcriptions"):
        assert "microphone=()" in api.get(path).headers["permissions-policy"]


# What browsers may keep


def test_a_permalink_is_the_page(api: TestClient) -> None:
    for path in ("/t/0199a3f2-0000-7000-8000-000000000000", "/t/x?t=83.2"):
        answer = api.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        assert "/assets/index-a1.js" in answer.text


def test_an_asset_is_kept_for_good_and_sent_compressed(api: TestClient) -> None:
    answer = api.get("/assets/index-a1.js")
    assert answer.text == SCRIPT
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < len(SCRIPT)
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "Accept-Encoding" in answer.headers["vary"].split(", ")


@pytest.mark.parametrize("accepted", ["identity", "br", "gzip;q=0", "br, gzip; q=0.0"])
def test_who_takes_no_gzip_gets_none(api: TestClient, accepted: str) -> None:
    answer = api.get("/assets/index-a1.js", headers={"Accept-Encoding": accepted})
    assert "content-encoding" not in answer.headers
    assert answer.content == SCRIPT.encode()


def test_what_is_no_shorter_compressed_is_sent_as_it_is(api: TestClient) -> None:
    answer = api.get("/favicon.png")
    assert (answer.content, answer.headers["content-type"]) == (ICON, "image/png")
    assert "content-encoding" not in answer.headers


def test_a_file_without_a_hash_in_its_name_is_asked_for_again(api: TestClient) -> None:
    answer = api.get("/site.webmanifest")
    assert answer.headers["content-type"] == "application/manifest+json"
    assert answer.headers["cache-control"] == "no-cache"
    again = api.get("/site.webmanifest", headers={"If-None-Match": f'"x", W/{answer.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == answer.headers["etag"]


def test_the_two_forms_of_a_file_have_two_etags(api: TestClient) -> None:
    forms = [
        api.get("/assets/index-a1.js", headers={"Accept-Encoding": coding}) for coding in ("gzip", "identity")
    ]
    assert forms[0].headers["etag"] != forms[1].headers["etag"]
    other = {"Accept-Encoding": "gzip", "If-None-Match": forms[1].headers["etag"]}
    assert api.get("/assets/index-a1.js", headers=other).status_code == 200


@pytest.mark.parametrize("path", ["/", "/t/x", "/assets/index-a1.js", "/favicon.png"])
def test_the_headers_can_be_had_alone(api: TestClient, path: str) -> None:
    alone, whole = api.head(path), api.get(path)
    assert (alone.status_code, alone.content) == (200, b"")
    assert alone.headers["content-length"] == whole.headers["content-length"]
    assert alone.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.parametrize(
    "path", ["/assets/index-b2.js", "/assets/", "/assets/../index.html", "/assets/%2e%2e/index.html", "/t/"]
)
def test_what_is_not_there_is_a_problem(api: TestClient, path: str) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "no_such_route")


@pytest.mark.parametrize("path", ["/", "/t/x", "/assets/index-a1.js"])
def test_nothing_can_be_sent_there(api: TestClient, path: str) -> None:
    answer = api.post(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


# For whom it is


def test_nobody_need_sign_in_for_the_page(built: Path) -> None:
    with served(auth=("keys",), max_requests_per_second=0.1) as client:
        for path in ("/", "/t/x", "/assets/index-a1.js") * 5:
            assert client.get(path).status_code == 200


def test_in_open_mode_it_is_for_this_machine_only(api: TestClient) -> None:
    for path in ("/", "/assets/index-a1.js"):
        assert api.get(path, headers={"Host": "rebound.example"}).status_code == 403


@pytest.mark.parametrize(
    ("named", "allowed"),
    [
        ("", ("*",)),
        ("*", ("*",)),
        ("https://a.example", ("https://a.example", "http://127.0.0.1:8080", "http://localhost:8080")),
    ],
)
def test_under_make_up_it_may_upload_whichever_others_may(named: str, allowed: tuple[str, ...]) -> None:
    settings = Settings(port=8080, allowed_origins=named or ())
    assert bucket_origins(settings) == allowed


def test_the_page_is_no_part_of_the_api_s_document(api: TestClient) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    assert not {"/", "/t/{id}", "/favicon.png"} & set(paths)
    assert not any(path.startswith("/assets") for path in paths)


def test_an_api_without_a_page_says_how_to_build_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "FOLDER", tmp_path / "nowhere")
    with served() as client:
        for path in ("/", "/t/x"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (404, "page_not_built")
            assert "`make page`" in answer.json()["detail"]
        assert client.get("/health/live").status_code == 200


# The one that was built


def test_what_was_built_is_whole_and_keeps_to_its_policy() -> None:
    files = page.read(page.FOLDER)
    assert page.INDEX in files, "there is no page to be tested: `make page` builds it"
    index = files[page.INDEX].content.decode()
    named = re.findall(r'(?:src|href)="/([^"]*)"', index)
    assert any(name.startswith(page.ASSETS) for name in named)
    assert set(named) <= set(files)
    # Nothing from elsewhere, no script or style in the page itself, and its nonce wherever one counts.
    assert "//" not in re.sub(r"<!--.*?-->", "", index)
    assert re.findall(r"<script[^>]*>[^<]", index) == re.findall(r"<style| style=| on\w+=", index) == []
    assert page.NONCE in index
    assert {Path(name).suffix for name in files} <= set(page.TYPES)


def test_what_was_built_hands_on_the_licences_of_what_is_in_it() -> None:
    licences = page.read(page.FOLDER)["licenses.txt"].content.decode()
    assert re.search(r"^## @uppy/core - .*MIT", licences, re.MULTILINE)
    assert "## wavesurfer.js - " in licences


def test_what_was_built_fits_through_a_lambda_s_gateway() -> None:
    for name, file in page.read(page.FOLDER).items():
        sent = file.zipped or file.content
        assert len(sent) * 4 / 3 < 6_000_000, name
        assert file.zipped is None or gzip.decompress(file.zipped) == file.content
