"""Settings: read from the environment, checked before anything is started."""

from pathlib import Path

import pytest
from bucketscribe.settings import Settings
from bucketscribe.up.checks import explain
from pydantic import ValidationError


def test_every_setting_is_documented() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKETSCRIBE_ALLOWED_ORIGINS", "https://a.example, https://b.example,")
    monkeypatch.setenv("BUCKETSCRIBE_ALLOWED_MODELS", "base")
    settings = Settings()
    assert settings.allowed_origins == ("https://a.example", "https://b.example")
    assert settings.allowed_models == ("base",)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKETSCRIBE_S3_PORT", "")
    assert Settings().s3_port is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "0", "port"),
        ("PORT", "many", "port"),
        ("MAX_UPLOAD_BYTES", "5368709121", "max_upload_bytes"),
        ("SECRET", "too short", "secret"),
        ("MODEL", "enormous", "not among allowed_models"),
        ("LEASE_SECONDS", "5", "three times heartbeat_seconds"),
        ("ENGINE", "magic", "engine"),
        ("AUTH", ",", "auth"),
        ("AUTH", "password", "auth"),
        ("AUTH", "oidc", "set oidc_issuer and oidc_audience"),
        ("AUTH", "magic", "auth"),
        ("ALLOWED_ORIGINS", "*", "open mode only"),
        ("EVENTS_TOKEN", "schlüssel-0123456789", "visible ASCII"),
        ("EVENTS_TOKEN", "a token with spaces", "visible ASCII"),
        ("EVENTS_TOKEN", "a-token-with-a-line\n", "visible ASCII"),
        ("OIDC_ISSUER", "http://issuer.example", "oidc_issuer must be an https URL"),
        ("OIDC_ISSUER", "https://", "oidc_issuer must be an https URL"),
        ("OIDC_ISSUER", "http://127.0.0.1.evil.example", "oidc_issuer must be an https URL"),
        ("OIDC_ISSUER", "http://[", "oidc_issuer must be an https URL"),
        ("OIDC_JWKS_URL", "http://issuer.example/keys", "oidc_jwks_url must be an https URL"),
        ("OIDC_JWKS_URL", "file:///etc/keys", "oidc_jwks_url must be an https URL"),
        ("OIDC_ALGORITHMS", "HS256", "oidc_algorithms"),
        ("OIDC_ALGORITHMS", "none", "oidc_algorithms"),
        ("ALIGN_MODELS", "de", "align_models"),
        ("ALIGN_MODELS", "de=", "align_models"),
        ("ALIGN_MODELS", "german=a/model", "align_models"),
        ("MODELS_URL", "https://bucket.example/models", "models_url"),
        ("MODELS_URL", "s3:///models", "models_url"),
        ("WEBHOOK_SECRET", "whsec_", "webhook_secret must be"),
        ("WEBHOOK_SECRET", "whsec_dG9vIHNob3J0", "webhook_secret must be"),
        ("WEBHOOK_SECRET", "whsec_" + "A" * 88, "webhook_secret must be"),
        ("WEBHOOK_SECRET", "not base64 at all, however long it is", "webhook_secret must be"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    if name == "ALLOWED_ORIGINS":
        monkeypatch.setenv("BUCKETSCRIBE_AUTH", "keys")
    monkeypatch.setenv(f"BUCKETSCRIBE_{name}", value)
    with pytest.raises(ValidationError, match=said):
        Settings()


@pytest.mark.parametrize(
    "url", ["https://issuer.example/realm", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:1/x"]
)
def test_the_issuer_is_where_nobody_can_change_what_it_says(url: str) -> None:
    assert Settings(oidc_issuer=url, oidc_jwks_url=url).oidc_issuer == url


def test_the_job_queue_is_not_taken_for_that_of_dead_letters() -> None:
    url = "https://sqs.eu-central-1.amazonaws.com/123456789012/jobs"
    with pytest.raises(ValidationError, match="every job in it would be failed"):
        Settings(queue_url=url, dead_letters_url=url)
    assert Settings(queue_url=url, dead_letters_url=f"{url}-dead").dead_letters_url == f"{url}-dead"


def test_secrets_are_not_shown() -> None:
    settings = Settings(secret="a long enough secret", hf_token="hf_a_long_enough_token")
    assert "long_enough" not in repr(settings).replace(" ", "_")


def test_models_may_lie_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings(data_dir=Path("/data")).models_folder == Path("/data/models")
    monkeypatch.setenv("BUCKETSCRIBE_MODELS_DIR", "/models")
    monkeypatch.setenv("BUCKETSCRIBE_ALIGN_MODELS", "de=/models/german, pl=someone/polish")
    settings = Settings(data_dir=Path("/data"))
    assert settings.models_folder == Path("/models")
    assert settings.align_models == ("de=/models/german", "pl=someone/polish")


def test_clients_are_sent_to_the_public_endpoint_and_aws_by_default() -> None:
    assert Settings().public_endpoint is None
    assert not Settings().path_style
    inside = Settings(s3_endpoint="http://minio:9000")
    assert (inside.public_endpoint, inside.path_style) == ("http://minio:9000", True)
    outside = Settings(s3_endpoint="http://minio:9000", s3_public_endpoint="https://s3.example.com")
    assert outside.public_endpoint == "https://s3.example.com"


@pytest.mark.parametrize("name", ["secret", "events_token", "webhook_secret"])
def test_a_secret_that_is_refused_is_not_shown(name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({name: "too-short"})
    assert "too-short" not in "".join(explain(refused.value))
