"""Secrets in text: recognised by where they come from or how they look, and hidden."""

from __future__ import annotations

import json
import os
import re
from typing import Any
from urllib.parse import quote

HIDDEN = "***"

# Variables whose value is a secret, such as AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, HF_TOKEN,
# RAY_AUTH_TOKEN, SLACK_WEBHOOK_URL, but none that only tell where one is kept.
_SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY|ACCOUNT_KEY|WEBHOOK|SAS")
_PLACE_NAME = re.compile(r"(_FILE|_PATH|_DIR|_ARN|_MODE)$")
SHORTEST = 8  # a shorter "secret", such as the "local" of a test server, would hide ordinary words

_USERINFO = re.compile(
    r"(?<=://)[^\s/?#@:'\"]*:[^\s/?#@'\"]*@"  # user:password@
    r"|(?<=http://|ttps://)[^\s/?#@'\"]+@"  # token@
    # id:secret@, with slashes in it; an access point's name, which begins so too, is none
    r"|(?:(?<=s3://)|(?<=s3a://))(?!arn:)[^\s/:@'\"]+:[^\s@'\"]+@"
)
# Credentials in the query of a URL: signed by AWS or Google, Azure's SAS, and the usual names.
_QUERY = re.compile(
    r"([?&](?:x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential)|"
    r"sig|signature|(?:access_?|auth_?)?token|api_?key|key|secret|password)=)[^&\s'\"#]+",
    re.IGNORECASE,
)

_own: set[str] = set()


def hide(*secrets: str) -> None:
    """Have ``redact`` hide these as well, such as a webhook's URL from a configuration file."""
    _own.update(secret for secret in secrets if len(secret) >= SHORTEST)


def redact(text: str) -> str:
    """Text without secrets.

    Hidden are the values of secret environment variables, what ``hide`` was told, and user names,
    passwords and signatures within URLs.
    """
    for secret in sorted(_own | _from_environment(), key=len, reverse=True):
        for form in {secret, quote(secret, safe="")}:
            text = text.replace(form, HIDDEN)
    return _QUERY.sub(rf"\1{HIDDEN}", _USERINFO.sub(f"{HIDDEN}@", text))


def redacted_json(content: dict[str, Any]) -> bytes:
    """A JSON file without secrets, readable without a decoder."""
    text = redact(json.dumps(content, indent=2, ensure_ascii=False))
    return text.encode(errors="backslashreplace")  # a file name need not be Unicode


def holds_credential(uri: str) -> bool:
    """Whether a URI carries a password or a signature, which every row about it would repeat."""
    is_url = re.search(r"\bhttps?://", uri, re.IGNORECASE)  # elsewhere "?" is part of a key
    return bool((is_url and _QUERY.search(uri)) or _USERINFO.search(uri))


def _from_environment() -> set[str]:
    return {
        value
        for name, value in os.environ.items()
        if len(value) >= SHORTEST
        and _SECRET_NAME.search(name.upper())
        and not _PLACE_NAME.search(name.upper())
    }
