"""The page as bytes: nothing gets out of its data, nothing secret in, and it has a limit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import boto3
import pytest

from pipeline.commands import report as command
from pipeline.config.page import PageConfig
from pipeline.report import page as page_module
from pipeline.report.page import embedded, make_page, redacted, write_run_page
from pipeline.report.scope import Query
from pipeline.storage import stat, write_object
from tests import outputs
from tests.bucket import jpeg, put

HOSTILE = "</script><script>alert(1)</script><!--\"'><img src=x onerror=alert(2)>\u202e\u2028&amp;"
RUN = "20260101T020000Z-abcdef"


class Elements(HTMLParser):
    """Start tags of a page, and the text of its JSON."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.json: dict[str, str] = {}
        self._id: str | None = None
        self.policy = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"] or ""
        self._id = found.get("id") if found.get("type") == "application/json" else None

    def handle_data(self, data: str) -> None:
        if self._id:
            self.json[self._id] = self.json.get(self._id, "") + data


@pytest.fixture
def output(tmp_path: Path) -> str:
    """A night of three images; one has a hostile key, category and error."""
    rows = []
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_bytes(jpeg(i))
        row = outputs.scored(f"file://{tmp_path}", i, 0.9 - i / 10)
        rows.append(row | {"etag": stat(str(row["uri"])).etag})
    rows[2] |= {"uri": f"file://{tmp_path}/{HOSTILE}/" + "y" * 900, "category": HOSTILE}
    failed = outputs.scored(f"file://{tmp_path}", 9, None)
    rows.append(failed | {"uri": f"file:///{HOSTILE}", "error_message": HOSTILE})
    folder = f"{tmp_path}/out"
    outputs.write(folder, rows, "2026-01-01", run_id=RUN)
    report = {
        "run_id": RUN,
        "status": "done",
        "model": "m",
        "settings": {"scan_date": "2026-01-01"},
    }
    write_object(f"{folder}/runs/{RUN}/report.json", json.dumps(report).encode())
    return folder


def data_of(page: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Elements(page).json["data"])
    return found


def test_hostile_names_stay_in_the_data_whole(output: str) -> None:
    page = make_page(output)
    found = Elements(page)
    assert found.tags.count("script") == 4, "data, pictures, the page's own, Plotly"
    assert not {"img", "iframe", "object"} & set(found.tags)
    data = json.loads(found.json["data"])
    assert HOSTILE in [each["name"] for each in data["categories"]]
    assert any(HOSTILE in row["uri"] for row in data["gallery"])
    assert data["errors"][0]["examples"][0] == {"uri": f"file:///{HOSTILE}", "message": HOSTILE}
    assert len(json.loads(found.json["pictures"])) == 3


@pytest.mark.parametrize("text", ["</script>", "<!--", "]]>", "\u2028\u2029", "&lt;", "\ud800"])
def test_embedded_json_holds_no_markup(text: str) -> None:
    found = embedded({text: [text]})
    assert not set("<>&\u2028\u2029") & set(found)
    assert found.isascii()
    assert json.loads(found) == {text: [text]}


def test_the_title_is_escaped(tmp_path: Path, output: str) -> None:
    folder = tmp_path / "a<b>&'"
    Path(output).rename(folder)
    assert b"<title>2026-01-01 \xc2\xb7 a&lt;b&gt;&amp;&#x27;</title>" in make_page(str(folder))


def test_the_policy_allows_the_pages_own_scripts_and_no_request(output: str) -> None:
    policy = Elements(make_page(output)).policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    script = policy.split("; ")[1]
    assert len(re.findall(r"'sha256-[A-Za-z0-9+/=]{44}'", script)) == 2
    assert "unsafe" not in script
    assert "img-src data:" in policy


def test_until_its_script_runs_a_page_shows_what_it_needs_only(output: str) -> None:
    """It showed empty headings; ``noscript`` tells nothing where a server forbids scripts."""
    page = make_page(output, gallery=0).decode()
    body = page[page.index("<body>") :]
    *parts, notice = re.findall(r"^<(?:a|header|main|nav|section|p)\b[^>]*>", body, re.M)
    assert len(parts) == 3
    assert all(part.endswith(" hidden>") for part in parts)
    assert notice == '<p class="notice bad" id="needs-script">'
    data, script = body.index('id="pictures"'), body.index("function start()")
    assert data < body.index(notice) < script, "else it is seen while the data load"
    assert "open it from disk, or allow" in body


def test_a_page_names_no_other_host_in_what_is_its_own(output: str) -> None:
    page = make_page(output, gallery=0).decode()
    own = page[: page.index("plotly.js v")]
    assert re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", own) == []


def test_secrets_are_hidden_everywhere(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", 'can"ary</0123456789')
    rows = [outputs.scored("s3://b/x", 7, None) | {"error_message": 'key can"ary</0123456789 bad'}]
    outputs.write(output, rows, "2026-01-02")
    page = make_page(output)
    assert data_of(page)["errors"][0]["examples"][0]["message"] == "key *** bad"
    assert redacted({'can"ary</0123456789': ['can"ary</0123456789', 1]}) == {"***": ["***", 1]}


def test_the_page_keeps_to_its_limit(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = len(make_page(output, gallery=0))
    whole = len(make_page(output))
    assert bare < whole < page_module.MAX_BYTES
    monkeypatch.setattr(page_module, "MAX_BYTES", bare + 9_000)
    assert len(make_page(output)) <= bare + 9_000


def test_a_runs_page_opens_in_a_browser_from_s3(output: str, bucket: str) -> None:
    for path in Path(output).rglob("*"):
        if path.is_file():
            put(bucket, {f"out/{path.relative_to(output)}": path.read_bytes()})
    assert write_run_page(f"s3://{bucket}/out", RUN, gallery=10) == ""
    found = boto3.client("s3").get_object(Bucket=bucket, Key=f"out/runs/{RUN}/report.html")
    assert found["ContentType"] == "text/html; charset=utf-8"
    assert data_of(found["Body"].read())["run_id"] == RUN


def test_a_page_that_cannot_be_made_is_told_in_the_report(output: str) -> None:
    for path in Path(output).glob("scores/**/*.parquet"):
        path.write_bytes(b"not Parquet")
    problem = write_run_page(output, RUN, gallery=10)
    assert "ArrowInvalid" in problem
    report = json.loads(Path(f"{output}/runs/{RUN}/report.json").read_text())
    assert (report["status"], report["page_problem"]) == ("done", problem)
    assert not Path(f"{output}/runs/{RUN}/report.html").exists()


def test_a_run_without_a_report_gets_none(output: str) -> None:
    assert "no report of a run 'other'" in write_run_page(output, "other", gallery=0)
    assert not Path(f"{output}/runs/other").exists()


# --- the command -------------------------------------------------------------------------------


def test_the_command_writes_a_page(
    output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "night.html"
    code = command.main([output, "--from", "2026-01-01", "--html", str(target), "--gallery", "2"])
    assert code == 0
    assert capsys.readouterr().out.startswith(f"file://{target} (")
    assert len(data_of(target.read_bytes())["gallery"]) == 2
    assert command.main([output, "--run", RUN, "--html", str(target)]) == 0
    assert data_of(target.read_bytes())["run_id"] == RUN


def test_a_model_that_is_not_there_gave_an_empty_page_and_code_0(
    output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [outputs.scored("s3://b/other", i, 0.5) for i in range(2)]
    outputs.write(output, rows, "2026-01-01", model="other")
    target = tmp_path / "zzz.html"
    for asked in ("zzz", "zzz+refs-1"):
        assert command.main([output, "--fingerprint", asked, "--html", str(target)]) == 2
        told = capsys.readouterr().err
        assert "have no row of the model zzz; they have, with the number of rows, m (" in told
        assert ", other (2). Give one of these fingerprints" in told
        assert not target.exists()
    assert command.main([output, "--fingerprint", "other", "--html", str(target)]) == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--from", "2026-1-1"], "--from '2026-1-1' is not YYYY-MM-DD"),
        (["--from", "2026-02-01", "--to", "2026-01-01"], "is after"),
        (["--from", "2026-02-01", "--nights", "2"], "not both"),
        (["--run", "x", "--nights", "2"], "--run is one run"),
        (["--gallery", "1001"], "--gallery is 1001"),
        (["--nights", "0"], "--nights is 0"),
        (["--past", "-1"], "--past is -1"),
        (["--html", "https://user:password@host/x"], "a password or a signature"),
        (["--from", "2030-01-01"], "no night from 2030-01-01"),
    ],
)
def test_a_command_that_cannot_work_is_explained_with_code_2(
    output: str, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = command.main([output, *flags])
    except SystemExit as ended:  # of the parser
        code = ended.code
    assert code == 2
    told = " ".join(capsys.readouterr().err.split())
    assert words in told
    assert "password@" not in told


def test_an_output_or_target_that_cannot_be_used_is_code_1(
    output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([output, "--html", "/proc/nothing/x.html"]) == 1
    assert "the page can't be written" in capsys.readouterr().err
    for path in Path(output).glob("scores/**/*.parquet"):
        path.write_bytes(b"not Parquet")
    assert command.main([output, "--html", "/proc/nothing/x.html"]) == 1


@pytest.mark.slow
def test_a_page_needs_neither_torch_nor_ray(output: str, tmp_path: Path) -> None:
    code = (
        "import sys; from pipeline.report.__main__ import main\n"
        f"assert main([{output!r}, '--html', {str(tmp_path / 'x.html')!r}]) == 0\n"
        "assert not {'torch', 'ray', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_query_by_default_is_the_newest_night() -> None:
    assert Query() == command.query_of(PageConfig(output="x"))
