"""Secrets are hidden wherever they stand in a text; ordinary text stays as it is."""

from __future__ import annotations

import pytest

from pipeline.config import ScoreConfig, TrainConfig
from pipeline.redaction import hide, holds_credential, redact

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCY"


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "RAY_AUTH_TOKEN",
        "HF_TOKEN",
        "SLACK_WEBHOOK_URL",
        "AZURE_STORAGE_ACCOUNT_KEY",
        "database_password",
    ],
)
def test_values_of_secret_variables_are_hidden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, SECRET)
    text = f"key {SECRET} and wJalrXUtnFEMI%2FK7MDENG%2BbPxRfiCY in a URL"
    assert redact(text) == "key *** and *** in a URL"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/token"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
        ("AWS_REGION", "eu-central-1"),
    ],
)
def test_what_is_no_secret_stays(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    assert redact(f"see {value}") == f"see {value}"


def test_told_secrets_are_hidden() -> None:
    hide("https://hooks.example/T0/B0/xyz")
    assert redact("POST https://hooks.example/T0/B0/xyz failed") == "POST *** failed"


CREDENTIALS = [
    ("https://user:pass@host:9000/b?list-type=2", "https://***@host:9000/b?list-type=2"),
    ("https://ghp_token@host/x.csv", "https://***@host/x.csv"),
    ("s3://AKIA123:sec/ret@bucket/key", "s3://***@bucket/key"),
    (
        "https://b.s3.amazonaws.com/k?X-Amz-Credential=AKIA&X-Amz-Signature=abc&X-Amz-Expires=60",
        "https://b.s3.amazonaws.com/k?X-Amz-Credential=***&X-Amz-Signature=***&X-Amz-Expires=60",
    ),
    (
        "https://a.blob.core.windows.net/c/k?sv=1&sig=abc",
        "https://a.blob.core.windows.net/c/k?sv=1&sig=***",
    ),
]
INNOCENT = [
    "s3://bucket/2026-01-01T10:00/a@2x.jpg",
    "s3://bucket/what?token=1.jpg",
    "hf://owner/name@revision/file.pth",
    "abfs://container@account.dfs.core.windows.net/images",
    "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/line/a@2x.jpg",
    "file:///data/a:b@c.jpg",
    "https://host:9000/images/1.jpg?version=2",
    "/data/images",
]


@pytest.mark.parametrize(("uri", "shown"), CREDENTIALS)
def test_credentials_in_uris_are_found_and_hidden(uri: str, shown: str) -> None:
    assert holds_credential(uri)
    assert redact(f'"{uri}": refused') == f'"{shown}": refused'


@pytest.mark.parametrize("uri", INNOCENT)
def test_ordinary_uris_are_no_credentials(uri: str) -> None:
    assert not holds_credential(uri)


@pytest.mark.parametrize("uri", [uri for uri, _ in CREDENTIALS])
def test_settings_with_a_credential_are_refused_without_quoting_it(uri: str) -> None:
    for build, flag in (
        (lambda: ScoreConfig(input=("ok", uri), output="out"), "--input"),
        (lambda: ScoreConfig(input=("ok",), output=uri), "--output"),
        (lambda: ScoreConfig(input=("ok",), output="out", checkpoint=uri), "--checkpoint"),
        (lambda: TrainConfig(data=(f"mine={uri}",), output="out"), "--data"),
    ):
        with pytest.raises(ValueError, match=f"^{flag} holds a password or a signature") as refused:
            build()
        assert "://" not in str(refused.value)
