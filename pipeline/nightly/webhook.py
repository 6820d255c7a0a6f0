"""Tell a webhook. Its URL is a secret: no message, log or exception holds more than its host."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests

from pipeline.redaction import hide, redact

ATTEMPTS = 3
TIMEOUT_S = 10.0
LONGEST_WAIT_S = 30.0  # whatever the server's Retry-After says: the night's result waits for this
_TRANSIENT = (408, 429)


class WebhookError(Exception):
    """The webhook did not take the message; the text names its host only."""


def post(
    url: str,
    payload: dict[str, Any],
    *,
    attempts: int = ATTEMPTS,
    timeout_s: float = TIMEOUT_S,
    backoff_s: float = 1.0,
) -> None:
    """POST a payload as JSON, without the secrets that ``redact`` knows.

    HTTP 5xx, 408, 429 and broken connections are tried again, after ``backoff_s``, twice as long,
    and so on, or as long as the server asks for, up to 30 s. A receiver must take it that a message
    may come twice. Redirects are not followed: they would carry the message to another host.

    Args:
        url: http:// or https://; ``user:password@`` becomes an Authorization header.
        payload: what ``json`` can hold.
        attempts: at least 1.
        timeout_s: seconds to connect, and seconds between bytes of the answer.
        backoff_s: seconds before the second attempt.

    Raises:
        WebhookError: it was not delivered.
    """
    where = _where(url)
    hide(url)
    data = redact(json.dumps(payload, allow_nan=False)).encode()
    for attempt in range(1, attempts + 1):
        wait_s = backoff_s * 2 ** (attempt - 1)
        try:
            with _silenced():
                response = requests.post(
                    url,
                    data=data,
                    headers={"Content-Type": "application/json"},
                    timeout=timeout_s,
                    allow_redirects=False,
                    stream=True,  # the answer's body is not read, however long it is
                )
        except (requests.ConnectionError, requests.Timeout) as error:
            problem = type(error).__name__  # its text quotes the URL
        except (requests.RequestException, ValueError) as error:
            problem = f"can't be used: {type(error).__name__}"
            raise WebhookError(f"webhook {where} {problem}") from None
        else:
            response.close()
            if response.status_code < 300:
                return
            problem = f"HTTP {response.status_code}"
            if response.status_code < 500 and response.status_code not in _TRANSIENT:
                raise WebhookError(f"webhook {where} refused the message: {problem}")
            wait_s = _asked_wait(response, wait_s)
        if attempt < attempts:
            time.sleep(min(wait_s, LONGEST_WAIT_S))
    raise WebhookError(f"webhook {where} failed {attempts} times, last with: {problem}")


def _where(url: str) -> str:
    """Scheme and host, which may be told."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or parts.scheme not in ("http", "https"):
        raise WebhookError("the webhook's URL must start with http:// or https:// and name a host")
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "")


def _asked_wait(response: requests.Response, default: float) -> float:
    """Seconds of Retry-After; its other form, a date, is not worth its clock."""
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isdecimal() else default


@contextmanager
def _silenced() -> Iterator[None]:
    """urllib3 logs the path of every request at DEBUG."""
    logger = logging.getLogger("urllib3.connectionpool")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
