"""A small S3 server with the habits of those that are not Amazon's."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from .server import Handler, answer, body_of, serving


@dataclass
class OddS3:
    """One bucket of any name in memory; the flags say what the server does otherwise than S3."""

    ignores: tuple[str, ...] = ()
    """Headers of conditions that it does not look at."""
    wants_bare_etags: bool = False
    """If-Match with quotes holds never, as in Ceph radosgw 16."""
    refuses: dict[str, int] = field(default_factory=dict)
    """Requests it does not know, by a word of their first line or a header, with the status."""
    lists_bare_etags: bool = False
    """As rclone does."""
    classes: dict[str, str] = field(default_factory=dict)
    """Storage classes of keys."""
    restored: set[str] = field(default_factory=set)
    """Archived keys of which there is a restored copy."""
    denied: str = "\0"
    """Listing what contains this is denied."""
    page: int = 1000
    """Entries of a listing's first page; there is no second."""
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """First lines and headers of what came in."""
    mutex: threading.RLock = field(default_factory=threading.RLock)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Yields the endpoint."""
        with serving(self.respond) as endpoint:
            yield endpoint

    def respond(self, handler: Handler) -> None:
        """One request."""
        body, url = body_of(handler), urlsplit(handler.path)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        line = f"{handler.command} {unquote(handler.path)}"
        _, _, key = unquote(url.path).removeprefix("/").partition("/")
        with self.mutex:
            self.requests.append((line, headers))
            for word, status in self.refuses.items():
                if word in line or word in headers:
                    refuse(handler, status, "NotImplemented" if status == 501 else "BadRequest")
                    return
            if handler.command == "PUT":
                self._put(handler, key, body, headers)
            elif handler.command == "POST":
                for name in re.findall(r"<Key>(.*?)</Key>", body.decode()):
                    self.objects.pop(name, None)
                answer(handler, b"<DeleteResult/>")
            elif handler.command == "DELETE":
                self.objects.pop(key, None)
                answer(handler, b"", status=204)
            elif key:
                self._get(handler, key)
            else:
                self._list(handler, parse_qs(url.query).get("prefix", [""])[0], line)

    def _put(self, handler: Handler, key: str, body: bytes, headers: dict[str, str]) -> None:
        there = self.objects.get(key)
        if "if-none-match" in headers and "if-none-match" not in self.ignores and there is not None:
            refuse(handler, 412, "PreconditionFailed")
            return
        if (given := headers.get("if-match")) and "if-match" not in self.ignores:
            now = etag(there or b"")
            if there is None or given != (now.strip('"') if self.wants_bare_etags else now):
                refuse(handler, 412, "PreconditionFailed")
                return
        self.objects[key] = body
        answer(handler, b"", ETag=etag(body))

    def _get(self, handler: Handler, key: str) -> None:
        if key not in self.objects:
            refuse(handler, 404, "NoSuchKey")
            return
        body = self.objects[key]
        answer(handler, body, ETag=etag(body), Last_Modified=formatdate(1e9, usegmt=True))

    def _list(self, handler: Handler, prefix: str, line: str) -> None:
        if self.denied in line:
            refuse(handler, 403, "AccessDenied")
            return
        delimiter = "&delimiter=/" in line
        entries, folders = [], set()
        for key in sorted(key for key in self.objects if key.startswith(prefix)):
            if delimiter and "/" in (below := key[len(prefix) :]):
                folders.add(prefix + below.split("/")[0] + "/")
                continue
            spelled = etag(self.objects[key]).strip('"' if self.lists_bare_etags else "")
            kind = self.classes.get(key, "STANDARD")
            restore = "<RestoreStatus><RestoreExpiryDate>2099-01-01T00:00:00Z</RestoreExpiryDate>"
            asked = "x-amz-optional-object-attributes" in handler.headers
            entries.append(
                f"<Contents><Key>{quote(key)}</Key><ETag>{escape(spelled)}</ETag>"
                f"<Size>{len(self.objects[key])}</Size><StorageClass>{kind}</StorageClass>"
                "<LastModified>2001-09-09T01:46:40.123Z</LastModified>"
                + (f"{restore}</RestoreStatus>" if asked and key in self.restored else "")
                + "</Contents>"
            )
        entries += [f"<CommonPrefixes><Prefix>{f}</Prefix></CommonPrefixes>" for f in folders]
        more = len(entries) > self.page
        goes_on = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        goes_on += "<NextContinuationToken>2</NextContinuationToken>" if more else ""
        text = f"<ListBucketResult>{goes_on}{''.join(entries[: self.page])}"
        text += "<EncodingType>url</EncodingType></ListBucketResult>"
        answer(handler, text.encode())


def etag(body: bytes) -> str:
    """As S3 makes it of what is put at once."""
    return f'"{hashlib.md5(body).hexdigest()}"'


def refuse(handler: Handler, status: int, code: str) -> None:
    answer(handler, f"<Error><Code>{code}</Code></Error>".encode(), status=status)
