"""The nightly job as its users start it: command line, exit codes, and what it reads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from aiohttp import ClientSession, web

from pipeline import logs
from pipeline.commands import nightly
from pipeline.commands.nightly import main, parse, scans_of
from tests import golden
from tests.bucket import jpeg, put
from tests.faults.proxy import Proxy, running

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "infra" / "scans.example.yaml"


class Requests(Proxy):
    """Lets all requests through and keeps what they asked for."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream, lambda *change: None)
        self.seen: list[tuple[str, str]] = []

    async def handle(self, request: web.Request, session: ClientSession) -> web.StreamResponse:
        """Note the request and answer it."""
        self.seen.append((request.method, request.path))
        return await super().handle(request, session)


def test_flags_go_to_every_source_and_defaults_leave_the_file_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ADACLIP_WEBHOOK", "https://example.com/hook")
    given = ["--config", str(EXAMPLE), "--scan-date", "2026-01-02", "--lock-wait-s", "60"]
    configs = [each.config for each in scans_of(parse(given)).sources]
    assert [each.limit for each in configs] == [None, None, 200_000]
    assert {(each.scan_date, each.lock_wait_s) for each in configs} == {("2026-01-02", 60.0)}
    more = ["--limit", "7", "--since", "2d", "--rescore", "--source", "line-1"]
    [config] = [each.config for each in scans_of(parse([*given, *more])).sources]
    assert (config.limit, config.since, config.rescore) == (7, "2d", True)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--config"),
        (["--config", "/nowhere/scans.yaml"], "can't be read"),
        (["--config", str(EXAMPLE), "--source", "line-l"], "did you mean 'line-1'"),
        (["--config", str(EXAMPLE), "--since", "yesterday"], "--since"),
        (["--config", str(EXAMPLE), "--limit", "0"], "--limit"),
        (["--config", str(EXAMPLE), "--scan-date", "today"], "--scan-date"),
        (["--config", str(EXAMPLE), "--price-per-hour", "3"], "--dry-run"),
        (["--config", str(EXAMPLE), "--dry-run", "--price-per-hour", "-3"], "--price-per-hour"),
    ],
)
def test_what_cannot_be_used_exits_with_2_before_ray_starts(
    flags: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ADACLIP_WEBHOOK", "https://example.com/hook")
    try:
        code = main(flags)
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    assert code == 2
    output = capsys.readouterr()
    assert words in output.out + output.err


def test_a_dry_run_looks_at_the_sources_after_one_that_fails_unexpectedly(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lines:
        """Of a source that can be looked at."""

        def lines(self, price: float | None) -> str:
            return "4 images"

    def preview(source: Any) -> Lines:
        if source.name == "line-1":
            raise TypeError("expected str, not bytes")
        return Lines()

    monkeypatch.setenv("ADACLIP_WEBHOOK", "https://example.com/hook")
    monkeypatch.setattr(nightly, "preview", preview)
    config = parse(["--config", str(EXAMPLE), "--dry-run"])
    scans = scans_of(config)
    logs.configure()
    assert nightly._preview(nightly._Job(config, scans)) == 1
    output = capsys.readouterr()
    assert output.out.count("4 images") == len(scans.sources) - 1
    assert "error: line-1: TypeError: expected str, not bytes" in output.err


def test_a_night_and_the_next_one_on_an_unchanged_bucket(
    s3: dict[str, str], bucket: str, golden_files: dict[str, str], tmp_path: Path
) -> None:
    """The second reads no image; its source that fails makes the exit code 1."""
    put(bucket, {f"in/bolt/{i}.jpg": jpeg(i) for i in range(4)})
    (tmp_path / "scans.yaml").write_text(
        yaml.safe_dump(
            {
                "summary": f"s3://{bucket}/ops",
                "defaults": {"image_size": golden.IMAGE_SIZE, **golden_files},
                "sources": [
                    {"name": "empty", "input": f"s3://{bucket}/no", "output": f"s3://{bucket}/a"},
                    {"name": "bolts", "input": f"s3://{bucket}/in", "output": f"s3://{bucket}/b"},
                ],
            }
        )
    )
    proxy = Requests(s3["AWS_ENDPOINT_URL"])
    with running(proxy) as endpoint:

        def night(*flags: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "jobs/nightly_scan.py", "--address", "local", *flags]
            command += ["--config", str(tmp_path / "scans.yaml")]
            environment = {**os.environ, "AWS_ENDPOINT_URL": endpoint}
            return subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
            )

        first = night("--source", "bolts")
        assert first.returncode == 0, first.stderr
        images = f"/{bucket}/in/bolt/"
        # Each once for its score, and once for its picture on the page.
        seen = Counter(path for _, path in proxy.seen if path.startswith(images))
        assert seen == {f"{images}{i}.jpg": 2 for i in range(4)}
        proxy.seen.clear()
        second = night()
    assert second.returncode == 1
    assert "error: not done: empty" in second.stderr
    assert "empty: there is no object below" in second.stdout
    assert not [path for method, path in proxy.seen if path.startswith(images)]
    assert len(pd.read_parquet(f"s3://{bucket}/b/scores")) == 4
