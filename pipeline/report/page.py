"""The page a person opens in the morning: one HTML file that needs nothing else.

Everything it shows travels as JSON, and its script sets texts only (``textContent``), so names that
others chose stay text. A content security policy that knows the page's own script by its hash, and
allows no other and no request, stands behind that.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

from pipeline.allocator import give_back
from pipeline.config.score import MAX_GALLERY
from pipeline.output.layout import PAGE, REPORT, run_folder
from pipeline.output.run_files import read_run_file, write_run_file
from pipeline.redaction import redact
from pipeline.storage import absolute, write_object
from pipeline.terminal import clean

from .gallery import Picture, take_pictures
from .page_data import gather
from .scope import Query

MAX_BYTES = 30_000_000
MAX_PROBLEM = 500  # characters; an error may quote a long key
CARD = (
    *("uri", "category", "score", "score_logit", "zero_shot_score", "reference_score"),
    *("nearest_reference", "map_max", "anomalous_area", "width", "height", "over"),
    *("box_x0", "box_y0", "box_x1", "box_y1", "night", "scored_at"),
)
CONTENT_TYPE = "text/html; charset=utf-8"
PLOTLY = b"$plotly"  # where its script goes
SCRIPTS = ("format.js", "charts.js", "gallery.js", "page.js")


def make_page(output: str, query: Query | None = None, *, gallery: int = 200) -> bytes:
    """The page of a run or of some nights, as HTML of at most ``MAX_BYTES``.

    Args:
        output: the scoring job's output.
        query: which rows; default: the newest night.
        gallery: how many images to show, at most 1,000; 0 reads no image and no map.

    Raises:
        ValueError: there is no such night or run.
        StorageError, OSError, pa.ArrowException: the score table can't be read.
    """
    data = gather(output, query, gallery=min(gallery, MAX_GALLERY))
    give_back()
    rows = data["gallery"]
    data = redacted(data | {"gallery": [{name: row[name] for name in CARD} for row in rows]})
    # Base64 makes four bytes of three; the rest is the JSON around each.
    room = (MAX_BYTES - len(render(data, [])) - (96 + MAX_PROBLEM) * len(rows)) // 4 * 3
    pictures = take_pictures(absolute(output), rows, max_bytes=room)
    give_back()
    for picture in pictures:
        picture["problem"] = redact(picture["problem"])[:MAX_PROBLEM]
    return render(data, pictures)


def write_page(uri: str, page: bytes) -> None:
    """Write a page so that a browser shows it when it is opened from S3.

    Raises:
        StorageError: it can't be written.
    """
    write_object(uri, page, CONTENT_TYPE)


def write_run_page(output: str, run_id: str, *, gallery: int) -> str:
    """Write ``runs/<run_id>/report.html``. What goes wrong is told and kept, never raised.

    Returns:
        "", or why there is no page; then report.json has it as "page_problem".
    """
    try:
        page = make_page(output, Query(run_id=run_id), gallery=gallery)
        write_page(f"{run_folder(output, run_id)}/{PAGE}", page)
        return ""
    except Exception as error:  # the scores are there; a page can be made again at any time
        problem = redact(f"{type(error).__name__}: {error}")
    try:
        if report := read_run_file(output, run_id):
            write_run_file(output, run_id, REPORT, report | {"page_problem": problem})
    except Exception as error:
        problem += redact(f"; nor can report.json tell of it: {error}")
    return problem


def render(data: dict[str, Any], pictures: Sequence[Picture]) -> bytes:
    """The page of what ``gather`` and ``take_pictures`` found; no text in it is trusted."""
    page, parts, plotly = _page()
    texts = {
        "title": html.escape(clean(_title(data), 200)),
        "data": embedded(data),
        "pictures": embedded(list(pictures)),
    }
    document = page.substitute(parts | texts | {"plotly": PLOTLY.decode()}).encode()
    before, _, after = document.rpartition(PLOTLY)  # the last: data may hold the same word
    return b"".join((before, plotly, after))


@cache  # 4 MB that are the same on every page of a night
def _page() -> tuple[Template, dict[str, str], bytes]:
    """The document, what stands in it whatever was found, and Plotly's script.

    Which are bytes from beginning to end: Python's text takes four bytes for each of its letters.
    """
    assets = files("pipeline.report") / "assets"
    own = _script(b"\n".join((assets / name).read_bytes() for name in SCRIPTS))
    plotly = _script((files("plotly") / "package_data" / "plotly.min.js").read_bytes())
    parts = {
        "csp": html.escape(_policy((plotly, own))),
        "style": (assets / "page.css").read_text("utf-8"),
        "script": own.decode(),
    }
    return Template((assets / "page.html").read_text("utf-8")), parts, plotly


def embedded(value: Any) -> str:
    """JSON for a ``<script type="application/json">``: no tag or comment can begin or end in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":  # other than in JSON's strings there is none
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def redacted(value: Any) -> Any:
    """The same, with the secrets hidden in all its texts."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redacted(key): redacted(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(each) for each in value]
    return value


def _title(data: dict[str, Any]) -> str:
    dates = data["dates"] or ["nothing scored"]
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"{when} · {data['output'].rsplit('/', 1)[-1]}"


def _script(source: bytes) -> bytes:
    """A script that may stand in HTML: within it, only strings can hold a closing tag."""
    source = source.replace(b"\r", b"").replace(b"</script", b"<\\/script")
    return source.replace(b"<!--", b"<\\!--")


def _policy(scripts: Sequence[bytes]) -> str:
    """Nothing but the two scripts, inline styles (Plotly's) and pictures of the page itself."""
    digests = [hashlib.sha256(each).digest() for each in scripts]
    hashes = " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in digests)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
