"""Signing in with JSON Web Tokens: an issuer of our own, on this machine, tells its keys over HTTP."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import jwt
import pytest
from bucketscribe import authentication, oidc
from bucketscribe.api.guard import COOKIE
from bucketscribe.auth import Scope, owner_slug
from bucketscribe.errors import Problem
from bucketscribe.keys import Keys
from bucketscribe.oidc import IssuerKeys, Oidc
from bucketscribe.queue import Queue
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.conftest import LaterBucket
from tests.integration.conftest import calling
from tests.integration.test_uploading import refused

AUDIENCE = "bucketscribe"
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

RSA = rsa.generate_private_key(65537, 2048)
RSA_NEXT = rsa.generate_private_key(65537, 2048)
RSA_EVIL = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()
KEYS: dict[str, PrivateKey] = {"rsa": RSA, "p256": P256, "p384": P384, "ed": ED}


def jwk(kid: str, key: PrivateKey, **more: str) -> dict[str, Any]:
    """The public half as a JWKS has it."""
    algorithm = {"rsa": "RS256", "p384": "ES384", "ed": "EdDSA"}.get(_kind(key), "ES256")
    public = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    return {**public, "kid": kid, "use": "sig", **more}


def _kind(key: PrivateKey) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return "rsa"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed"
    return "p384" if key.curve.key_size == 384 else "p256"


class Issuer:
    """An OpenID Connect issuer; what it answers can be changed, and what it was asked is counted."""

    def __init__(self) -> None:
        self.keys: Any = [jwk(kid, key) for kid, key in KEYS.items()]
        self.named: str | None = None
        self.status = 200
        self.asked: Counter[str] = Counter()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked[self.path] += 1
                body = json.dumps(issuer.answer(self.path)).encode()
                self.send_response(issuer.status)
                if 300 <= issuer.status < 400:
                    self.send_header("Location", f"{issuer.url}/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/realm"
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    def answer(self, path: str) -> Any:
        match path:
            case "/realm/.well-known/openid-configuration":
                return {"issuer": self.named or self.url, "jwks_uri": f"{self.url}/keys"}
            case _:
                return {"keys": self.keys}

    @property
    def fetched(self) -> int:
        """How often its keys were asked for."""
        return self.asked["/realm/keys"]

    def token(
        self,
        claims: dict[str, Any] | None = None,
        *,
        key: PrivateKey = RSA,
        kid: str | None = "rsa",
        algorithm: str = "RS256",
        headers: dict[str, Any] | None = None,
    ) -> str:
        """A good token of Ann's; claims that are None are left out."""
        now = int(time.time())
        all_claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "ann",
            "iat": now,
            "exp": now + 300,
            **(claims or {}),
        }
        told = {name: value for name, value in all_claims.items() if value is not None}
        named = {} if kid is None else {"kid": kid}
        return jwt.encode(told, key, algorithm, headers={**named, **(headers or {})})


class Clock:
    """Time that is put forward, in place of the module `time`."""

    def __init__(self) -> None:
        self.later = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.later

    def time(self) -> float:
        return time.time()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(oidc, "time", clock)
    monkeypatch.setattr(authentication, "time", clock)
    return clock


def serving() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.server.shutdown()
    issuer.server.server_close()


issuer = pytest.fixture(serving)
other_issuer = pytest.fixture(serving)


def trusting(settings: Settings, issuer: Issuer, **more: Any) -> Settings:
    named = {"auth": ("keys", "oidc"), "oidc_issuer": issuer.url, "oidc_audience": AUDIENCE}
    return settings.model_copy(update={**named, "oidc_algorithms": ALGORITHMS, **more})


@pytest.fixture
def trusted(settings: Settings, bucket: LaterBucket, queue: Queue, issuer: Issuer) -> Service:
    return Service.of(trusting(settings, issuer), bucket, queue)


@pytest.fixture
def api(trusted: Service) -> Iterator[TestClient]:
    with calling(trusted) as client:
        yield client


def ask(api: TestClient, token: str | bytes) -> httpx2.Response:
    token = token.encode() if isinstance(token, str) else token
    return api.get("/transcriptions", headers=httpx2.Headers([(b"Authorization", b"Bearer " + token)]))


def owner(api: TestClient, token: str) -> str:
    answer = api.post("/session", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["owner"])


# Good ones


@pytest.mark.parametrize(
    ("algorithm", "kid"),
    [
        *(("RS256", "rsa"), ("RS384", "rsa"), ("RS512", "rsa"), ("PS256", "rsa")),
        *(("ES256", "p256"), ("ES384", "p384"), ("EdDSA", "ed")),
    ],
)
def test_a_token_of_the_issuer_s_is_taken_whatever_allowed_algorithm_signed_it(
    api: TestClient, issuer: Issuer, algorithm: str, kid: str
) -> None:
    token = issuer.token(key=KEYS[kid], kid=kid, algorithm=algorithm)
    assert ask(api, token).status_code == 200
    assert owner(api, token) == owner_slug(issuer.url, "ann")


def test_who_has_a_token_may_do_everything_with_their_own_and_reads_no_metrics(
    api: TestClient, issuer: Issuer
) -> None:
    headers = {"Authorization": f"Bearer {issuer.token()}"}
    begun = api.post("/s3/multipart", json={"filename": "talk.wav"}, headers=headers).json()
    assert begun["key"].startswith(f"uploads/{owner_slug(issuer.url, 'ann')}/")
    assert api.post(f"/transcriptions/{begun['id']}/cancel", headers=headers).status_code == 200
    refused(api.get("/metrics", headers=headers), 403, "scope_missing")


def test_the_audience_may_be_one_of_several(api: TestClient, issuer: Issuer) -> None:
    assert ask(api, issuer.token({"aud": ["another", AUDIENCE]})).status_code == 200


def test_clocks_may_be_apart_by_the_leeway_and_no_more(api: TestClient, issuer: Issuer) -> None:
    now = int(time.time())
    for claims in ({"exp": now - 20}, {"nbf": now + 20}, {"iat": now + 20}):
        assert ask(api, issuer.token(claims)).status_code == 200, claims
    refused(ask(api, issuer.token({"exp": now - 31})), 401, "credentials_expired")
    for claims in ({"nbf": now + 50}, {"iat": now + 50}):
        refused(ask(api, issuer.token(claims)), 401, "bad_credentials")


def test_a_token_is_remembered_for_no_longer_than_it_is_good(
    api: TestClient, issuer: Issuer, clock: Clock
) -> None:
    token = issuer.token({"exp": int(time.time()) - 25})
    assert ask(api, token).status_code == 200
    clock.later = 6
    # It is judged anew; by the real clock it is good yet.
    before = issuer.fetched
    clock.later = oidc.JWKS_SECONDS + 1
    assert ask(api, token).status_code == 200
    assert issuer.fetched == before + 1


def test_a_session_ends_with_the_token_it_was_made_by(api: TestClient, issuer: Issuer) -> None:
    headers = {"Authorization": f"Bearer {issuer.token({'exp': int(time.time()) + 100})}"}
    begun = api.post("/session", headers=headers)
    assert begun.json()["expires"] <= 130
    cookie = {"Cookie": f"{COOKIE}={begun.cookies[COOKIE]}"}
    assert api.get("/transcriptions", headers=cookie).status_code == 200
    token = api.post("/upload-tokens", headers=headers).json()
    assert token["expires"] <= 130
    assert api.get(f"/u/{token['token']}/s3/params?filename=talk.wav").status_code == 200


def test_a_token_without_end_in_sight_makes_sessions_that_have_one(api: TestClient, issuer: Issuer) -> None:
    for end in (10**15, 10**400, 1e300):
        headers = {"Authorization": f"Bearer {issuer.token({'exp': end})}"}
        assert api.post("/session", headers=headers).json()["expires"] <= 43200


# Bad ones


def by_hand(header: dict[str, Any], claims: dict[str, Any], sign: Any) -> str:
    """A token that no library would make."""

    def word(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    signed = word(json.dumps(header).encode()) + b"." + word(json.dumps(claims).encode())
    return (signed + b"." + word(sign(signed))).decode()


def hmac_with_the_public_key(issuer: Issuer) -> str:
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = jwt.decode(issuer.token(), options={"verify_signature": False})
    header = {"alg": "HS256", "kid": "rsa", "typ": "JWT"}
    return by_hand(header, claims, lambda signed: hmac.digest(public, signed, hashlib.sha256))


def unsigned(issuer: Issuer, algorithm: str) -> str:
    claims = jwt.decode(issuer.token(), options={"verify_signature": False})
    return by_hand({"alg": algorithm, "kid": "rsa"}, claims, lambda _: b"")


BAD: dict[str, Callable[[Issuer], str]] = {
    "not signed": lambda issuer: unsigned(issuer, "none"),
    "not signed, in other letters": lambda issuer: unsigned(issuer, "nOnE"),
    "without signature": lambda issuer: issuer.token().rpartition(".")[0] + ".",
    "signed with the public key as a secret": hmac_with_the_public_key,
    "signed by another": lambda issuer: issuer.token(key=RSA_EVIL),
    "signed by the key of another id": lambda issuer: issuer.token(kid="p256"),
    "signed by an EC key under an RSA key's id": lambda issuer: issuer.token(key=P256, algorithm="ES256"),
    "signed by another curve": lambda issuer: by_hand(
        {"alg": "ES384", "kid": "p256"},
        jwt.decode(issuer.token(), options={"verify_signature": False}),
        lambda signed: P256.sign(signed, ec.ECDSA(SHA384())),
    ),
    "of a key nobody has": lambda issuer: issuer.token(kid="rsa-2"),
    "of no key": lambda issuer: issuer.token(kid=None),
    "an algorithm that is not allowed": lambda issuer: issuer.token(algorithm="PS512"),
    "another audience": lambda issuer: issuer.token({"aud": "another"}),
    "an audience that begins like ours": lambda issuer: issuer.token({"aud": f"{AUDIENCE}-2"}),
    "no audience": lambda issuer: issuer.token({"aud": None}),
    "another issuer": lambda issuer: issuer.token({"iss": "https://issuer.example"}),
    "an issuer that begins like ours": lambda issuer: issuer.token({"iss": f"{issuer.url}/"}),
    "no issuer": lambda issuer: issuer.token({"iss": None}),
    "no end": lambda issuer: issuer.token({"exp": None}),
    "an end that is no number": lambda issuer: issuer.token({"exp": "soon"}),
    "an end that is infinite": lambda issuer: issuer.token({"exp": float("inf")}),
    "no subject": lambda issuer: issuer.token({"sub": None}),
    "an empty subject": lambda issuer: issuer.token({"sub": ""}),
    "a blank subject": lambda issuer: issuer.token({"sub": " \t"}),
    "too long": lambda issuer: issuer.token({"x": "x" * 20_000}),
    "a critical header we do not know": lambda issuer: by_hand(
        {"alg": "RS256", "kid": "rsa", "crit": ["\ud800"], "\ud800": 1}, {}, lambda _: b"x"
    ),
    "a detached payload": lambda issuer: by_hand(
        {"alg": "RS256", "kid": "rsa", "b64": False, "crit": ["b64"]}, {}, lambda _: b"x"
    ),
    "deep": lambda issuer: by_hand({"alg": "RS256", "kid": "rsa"}, {}, lambda _: b"x").replace(
        ".", "." + base64.urlsafe_b64encode(b"[" * 9000).decode().rstrip("="), 1
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_token_that_is_not_as_it_must_be_is_not_taken(api: TestClient, issuer: Issuer, what: str) -> None:
    answer = ask(api, BAD[what](issuer))
    refused(answer, 401, "bad_credentials")
    assert answer.headers["www-authenticate"] == 'Bearer realm="bucketscribe"'


@pytest.mark.parametrize("subject", [7, ["ann"], {"name": "ann"}, True])
def test_a_subject_is_text(api: TestClient, issuer: Issuer, subject: Any) -> None:
    claims = jwt.decode(issuer.token(), options={"verify_signature": False}) | {"sub": subject}
    rs256 = jwt.get_algorithm_by_name("RS256")
    token = by_hand({"alg": "RS256", "kid": "rsa"}, claims, lambda signed: rs256.sign(signed, RSA))
    refused(ask(api, token), 401, "bad_credentials")


def test_what_is_not_signed_as_it_must_be_costs_the_issuer_nothing(api: TestClient, issuer: Issuer) -> None:
    for what in ("not signed", "signed with the public key as a secret", "of no key", "too long"):
        ask(api, BAD[what](issuer))
    ask(api, "eyJ")
    assert not issuer.asked


def test_keys_that_a_token_brings_along_are_not_looked_at(
    api: TestClient, issuer: Issuer, other_issuer: Issuer
) -> None:
    other_issuer.keys = [jwk("evil", RSA_EVIL)]
    elsewhere = f"{other_issuer.url}/keys"
    for headers in (
        {"jwk": jwk("rsa", RSA_EVIL)},
        {"jku": elsewhere},
        {"x5u": elsewhere},
        {"jku": elsewhere, "kid": "evil"},
        {"x5c": ["MII="]},
    ):
        refused(ask(api, issuer.token(key=RSA_EVIL, headers=headers)), 401, "bad_credentials")
    assert not other_issuer.asked


def test_a_key_for_another_use_or_algorithm_signs_nothing(api: TestClient, issuer: Issuer) -> None:
    issuer.keys = [jwk("rsa", RSA, use="enc"), jwk("p256", P256, alg="ES384"), jwk("p384", P384)]
    refused(ask(api, issuer.token()), 401, "bad_credentials")
    refused(ask(api, issuer.token(key=P256, kid="p256", algorithm="ES256")), 401, "bad_credentials")
    assert ask(api, issuer.token(key=P384, kid="p384", algorithm="ES384")).status_code == 200


def test_keys_that_nobody_can_use_are_in_no_other_s_way(api: TestClient, issuer: Issuer) -> None:
    secret = {"kty": "oct", "kid": "secret", "k": "c2VjcmV0c2VjcmV0c2VjcmV0"}
    junk = [None, 7, {}, {"kid": 7}, {"kid": "odd"}, {"kid": "mars", "kty": "MARS"}, secret]
    issuer.keys = [*junk, jwk("rsa", RSA)]
    assert ask(api, issuer.token()).status_code == 200
    for kid in ("odd", "mars", "secret"):
        refused(ask(api, issuer.token(kid=kid)), 401, "bad_credentials")


# Whose they are


def test_two_subjects_are_two_owners_however_alike_they_are(api: TestClient, issuer: Issuer) -> None:
    subjects = ["ann", "Ann", "ann ", "a-n-n", "änn", "an\u0303n", "a\ud800nn", "a\0nn", "x" * 500, "x" * 501]
    owners = {owner(api, issuer.token({"sub": subject})) for subject in subjects}
    assert len(owners) == len(subjects)


def test_nobody_sees_what_another_subject_has(api: TestClient, issuer: Issuer) -> None:
    ann, bob = ({"Authorization": f"Bearer {issuer.token({'sub': name})}"} for name in ("ann", "bob"))
    begun = api.post("/s3/multipart", json={"filename": "talk.wav"}, headers=ann).json()
    assert api.get(f"/transcriptions/{begun['id']}", headers=ann).status_code == 200
    refused(api.get(f"/transcriptions/{begun['id']}", headers=bob), 404, "no_such_transcription")
    assert api.get("/transcriptions", headers=bob).json()["transcriptions"] == []


def test_the_same_subject_of_another_issuer_is_another_owner(
    api: TestClient, issuer: Issuer, other_issuer: Issuer, trusted: Service
) -> None:
    refused(ask(api, other_issuer.token()), 401, "bad_credentials")
    settings = trusting(trusted.settings, other_issuer)
    with calling(Service.of(settings, trusted.bucket, trusted.queue)) as other:
        assert owner(other, other_issuer.token()) != owner(api, issuer.token())


def test_another_claim_may_say_whose_they_are(trusted: Service, issuer: Issuer) -> None:
    settings = trusting(trusted.settings, issuer, oidc_owner_claim="email")
    with calling(Service.of(settings, trusted.bucket, trusted.queue)) as api:
        token = issuer.token({"email": "ann@example.com"})
        assert owner(api, token) == owner_slug(issuer.url, "ann@example.com")
        for email in (None, "", 7, ["ann@example.com"]):
            refused(ask(api, issuer.token({"email": email})), 401, "bad_credentials")


# The issuer's keys


def test_keys_are_fetched_once_for_many_tokens(api: TestClient, issuer: Issuer) -> None:
    for name in "abcdefghij":
        assert ask(api, issuer.token({"sub": name})).status_code == 200
    assert issuer.asked == {"/realm/.well-known/openid-configuration": 1, "/realm/keys": 1}


def test_the_address_of_the_keys_can_be_set(trusted: Service, issuer: Issuer) -> None:
    settings = trusting(trusted.settings, issuer, oidc_jwks_url=f"{issuer.url}/there")
    with calling(Service.of(settings, trusted.bucket, trusted.queue)) as api:
        assert ask(api, issuer.token()).status_code == 200
    assert issuer.asked == {"/realm/there": 1}


def test_a_new_key_is_fetched_but_not_more_often_than_every_half_minute(
    api: TestClient, issuer: Issuer, clock: Clock
) -> None:
    assert ask(api, issuer.token()).status_code == 200
    issuer.keys = [jwk("rsa", RSA), jwk("next", RSA_NEXT)]
    new = issuer.token(key=RSA_NEXT, kid="next")
    refused(ask(api, new), 401, "bad_credentials")
    assert issuer.fetched == 1
    clock.later = oidc.UNKNOWN_KEY_SECONDS
    assert ask(api, new).status_code == 200
    assert issuer.fetched == 2
    for number in range(5):
        refused(ask(api, issuer.token(kid=f"made up {number}")), 401, "bad_credentials")
    assert issuer.fetched == 2


def test_a_key_that_was_dropped_is_good_for_five_minutes_more_at_most(
    api: TestClient, issuer: Issuer, clock: Clock
) -> None:
    assert ask(api, issuer.token()).status_code == 200
    issuer.keys = [jwk("next", RSA_NEXT)]
    clock.later = oidc.JWKS_SECONDS - 10
    assert ask(api, issuer.token({"sub": "bob"})).status_code == 200
    clock.later = oidc.JWKS_SECONDS
    refused(ask(api, issuer.token({"sub": "cyd"})), 401, "bad_credentials")


def unavailable(answer: httpx2.Response) -> None:
    refused(answer, 503, "issuer_unavailable")
    assert answer.headers["retry-after"] == str(oidc.REST_SECONDS)


@pytest.mark.parametrize("status", [302, 404, 500])
def test_an_issuer_that_does_not_answer_is_left_alone_for_a_while(
    api: TestClient, issuer: Issuer, clock: Clock, status: int
) -> None:
    issuer.status = status
    for _ in range(3):
        unavailable(ask(api, issuer.token()))
    assert sum(issuer.asked.values()) == 1
    issuer.status = 200
    unavailable(ask(api, issuer.token()))
    clock.later = oidc.REST_SECONDS
    assert ask(api, issuer.token()).status_code == 200


def test_an_issuer_that_is_gone_is_no_500(api: TestClient, issuer: Issuer) -> None:
    token = issuer.token()
    issuer.server.shutdown()
    issuer.server.server_close()
    unavailable(ask(api, token))


@pytest.mark.parametrize("keys", [None, {"rsa": 1}, "rsa", 7])
def test_what_is_no_set_of_keys_is_an_issuer_that_does_not_answer(
    api: TestClient, issuer: Issuer, keys: Any
) -> None:
    issuer.keys = keys
    unavailable(ask(api, issuer.token()))


def test_the_discovery_document_of_another_issuer_is_not_believed(api: TestClient, issuer: Issuer) -> None:
    issuer.named = "https://issuer.example"
    unavailable(ask(api, issuer.token()))
    assert issuer.fetched == 0


def test_keys_that_anybody_on_the_way_could_change_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    document = {"issuer": "https://issuer.example", "jwks_uri": "http://issuer.example/keys"}
    monkeypatch.setattr(oidc, "_get", lambda url: document)
    with pytest.raises(Problem, match="issuer_unavailable"):
        IssuerKeys("https://issuer.example", None).key("rsa")


def test_while_the_issuer_is_gone_known_keys_and_api_keys_are_good(
    api: TestClient, issuer: Issuer, clock: Clock, trusted: Service
) -> None:
    key = Keys(trusted.bucket).new("a test's", "local", (Scope.READ,), None)
    assert ask(api, issuer.token()).status_code == 200
    issuer.status = 500
    clock.later = oidc.UNKNOWN_KEY_SECONDS
    # Somebody makes a key id up, and so makes us ask in vain.
    unavailable(ask(api, issuer.token(kid="made up")))
    assert ask(api, issuer.token({"sub": "bob"})).status_code == 200
    assert ask(api, key).status_code == 200
    clock.later = oidc.JWKS_SECONDS
    unavailable(ask(api, issuer.token({"sub": "cyd"})))
    assert ask(api, key).status_code == 200


# Whatever is sent


TOKENS = st.one_of(
    st.binary(max_size=200).filter(
        lambda text: b"\r" not in text and b"\n" not in text and b"\0" not in text
    ),
    st.from_regex(rb"[\w-]{0,40}\.[\w-]{0,40}\.[\w-]{0,40}", fullmatch=True),
    st.from_regex(rb"bks_[0-9a-f]{0,41}", fullmatch=True),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "crit", "b64", "typ", "jwk", "zip"]), JSON, max_size=4
)
CLAIMS = st.dictionaries(
    st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "x"]), JSON, max_size=4
)
some = examples(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@some
@given(token=TOKENS)
def test_garbage_is_a_401(api: TestClient, token: bytes) -> None:
    answer = ask(api, token)
    refused(answer, 401, "bad_credentials" if token.strip() else "sign_in_required")


@some
@given(header=HEADERS, claims=CLAIMS)
def test_whatever_a_token_says_is_taken_or_a_401(
    settings: Settings, issuer: Issuer, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    signs = jwt.get_algorithm_by_name("RS256")
    good = jwt.decode(issuer.token(), options={"verify_signature": False})
    token = by_hand(
        {"alg": "RS256", "kid": "rsa", **header}, good | claims, lambda signed: signs.sign(signed, RSA)
    )
    told, oidc = "", Oidc(trusting(settings, issuer))
    try:
        told = oidc.principal(token).owner
    except Problem as problem:
        told = str(problem.status)
    assert told in ("401", owner_slug(issuer.url, str((good | claims)["sub"])))
