"""Google's and Azure's storage, as much of them as gcsfs and adlfs ask for here."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from .server import Handler, answer, body_of

GOOGLE_TIME = "2001-09-09T01:46:40.000Z"
AZURE_TIME = "Sun, 09 Sep 2001 01:46:40 GMT"
AZURE_KEY = "bm8gc2VjcmV0"


@dataclass
class Cloud:
    """Objects of one bucket in memory, each with the number of its version."""

    objects: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    denied: str = "\0"
    """Requests that contain this are denied."""
    tiers: dict[str, str] = field(default_factory=dict)
    """Azure's access tiers of keys."""
    versions: Any = field(default_factory=lambda: itertools.count(1))

    def put(self, key: str, body: bytes) -> int:
        """Returns the version."""
        version = next(self.versions)
        self.objects[key] = (body, version)
        return int(version)

    def google(self, handler: Handler) -> None:
        """One request of the JSON API."""
        body, url = body_of(handler), urlsplit(handler.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        key = unquote(url.path.partition("/o/")[2])
        if self.denied in unquote(handler.path):
            answer(handler, b'{"error": {"message": "No."}}', status=403)
        elif handler.command == "POST":
            key = query.get("name", "")
            if query["uploadType"] == "multipart":
                _, head, content = body.split(b"\n--==0==", 2)[0], *body.split(b"\n\n", 2)[1:]
                key = json.loads(head.split(b"\n--==0==")[0])["name"]
                body = content.removesuffix(b"\n--==0==--")
            now = self.objects[key][1] if key in self.objects else 0
            if query.get("ifGenerationMatch", str(now)) != str(now):
                answer(handler, b"", status=412)
                return
            self.put(key, body)
            answer(handler, json.dumps(self._google_info(key)).encode())
        elif key and key not in self.objects:
            answer(handler, b"{}", status=404)
        elif key and query.get("alt") == "media":
            first, last = asked_for(handler, len(self.objects[key][0]))
            answer(handler, self.objects[key][0][first : last + 1])
        elif key:
            answer(handler, json.dumps(self._google_info(key)).encode())
        else:
            self._google_list(handler, query)

    def _google_list(self, handler: Handler, query: dict[str, str]) -> None:
        keys = sorted(key for key in self.objects if key.startswith(query.get("prefix", "")))
        first = int(query.get("pageToken", 0))
        end = first + min(2, int(query.get("maxResults", 2)))  # pages of two, whatever is asked
        page: dict[str, Any] = {"items": [self._google_info(key) for key in keys[first:end]]}
        if end < len(keys):
            page["nextPageToken"] = str(end)
        answer(handler, json.dumps(page).encode())

    def _google_info(self, key: str) -> dict[str, str]:
        body, version = self.objects[key]
        times = dict.fromkeys(("updated", "timeCreated"), GOOGLE_TIME)
        return {"name": key, "size": str(len(body)), "etag": f"C{version}=",
                "generation": str(version), "metageneration": "1", **times}  # fmt: skip

    def azure(self, handler: Handler) -> None:
        """One request of the Blob service; the account and the container come first."""
        body, url = body_of(handler), urlsplit(handler.path)
        key = unquote(url.path).split("/", 3)[3] if url.path.count("/") > 2 else ""
        if self.denied in unquote(handler.path):
            answer(handler, b"", status=403)
        elif not key:
            self._azure_list(handler, parse_qs(url.query).get("prefix", [""])[0])
        elif handler.command == "PUT":
            now = f'"0x{self.objects[key][1]}"' if key in self.objects else None
            refused = 409 if handler.headers.get("If-None-Match") and now else 0
            if handler.headers.get("If-Match", now) != now:
                refused = 412
            if refused:
                answer(handler, b"", status=refused)
                return
            version = self.put(key, body)
            answer(handler, b"", status=201, ETag=f'"0x{version}"', Last_Modified=AZURE_TIME)
        elif key not in self.objects:
            answer(handler, b"", status=404, x_ms_error_code="BlobNotFound")
        elif handler.command == "DELETE":
            del self.objects[key]
            answer(handler, b"", status=202)
        else:
            content, version = self.objects[key]
            named = {"ETag": f'"0x{version}"', "Last-Modified": AZURE_TIME}
            named |= {"x-ms-blob-type": "BlockBlob"}
            first, last = asked_for(handler, len(content))
            ranged = f"bytes {first}-{last}/{len(content)}"
            part, status = content[first : last + 1], 200 if handler.command == "HEAD" else 206
            answer(handler, part, status=status,
                   Content_Range=ranged, **named)  # fmt: skip

    def _azure_list(self, handler: Handler, prefix: str) -> None:
        blobs = "".join(
            f"<Blob><Name>{escape(key)}</Name><Properties><Etag>0x{version}</Etag>"
            f"<Last-Modified>{AZURE_TIME}</Last-Modified><BlobType>BlockBlob</BlobType>"
            f"<Content-Length>{len(body)}</Content-Length>"
            f"<AccessTier>{self.tiers.get(key, 'Hot')}</AccessTier></Properties></Blob>"
            for key, (body, version) in sorted(self.objects.items())
            if key.startswith(prefix)
        )
        text = f"<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>"
        answer(handler, text.encode(), Content_Type="application/xml")


def asked_for(handler: Handler, size: int) -> tuple[int, int]:
    """The first and the last byte of a request's range, of an object of so many bytes."""
    text = handler.headers.get("x-ms-range") or handler.headers.get("Range") or "bytes=0-"
    first, _, last = text.removeprefix("bytes=").partition("-")
    return int(first), min(int(last or size), size - 1)


def azure_connection(endpoint: str) -> str:
    """What AZURE_STORAGE_CONNECTION_STRING says of such a server."""
    return (
        f"DefaultEndpointsProtocol=http;AccountName=account;AccountKey={AZURE_KEY};"
        f"BlobEndpoint={endpoint}/account;"
    )
