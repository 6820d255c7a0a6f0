"""A night over several sources on a real local Ray, against a real S3 server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pandas as pd
import pytest

from pipeline.benchmark.stand_in import StandInScorer
from pipeline.config import ScoreConfig
from pipeline.distributed import nightly
from pipeline.distributed.nightly import preview
from pipeline.distributed.scoring import score_bucket
from pipeline.errors import CannotRunError
from pipeline.nightly.alerts import AlertRule
from pipeline.nightly.scans import Scans, Source
from pipeline.output.lock import OutputLock
from pipeline.results import open_results
from pipeline.storage import list_objects, read_object, write_object
from tests.bucket import jpeg, put
from tests.listening import on_each_line

from .nights import TODAY, night_of, objects, scans, three_bolts

pytestmark = pytest.mark.usefixtures("local_ray")


class NoScorer:
    """In the scorer's place where none may start."""

    def __init__(self, **arguments: Any) -> None:
        raise AssertionError("a scorer was started")

    def __call__(self, batch: Any) -> Any:
        """Never reached."""


score = partial(score_bucket, scorer=StandInScorer)


@pytest.fixture
def received() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook: its URL, and what was posted to it."""
    messages: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            messages.append(json.loads(body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/secret-path", messages
    server.shutdown()
    server.server_close()


@pytest.fixture
def config(golden_files: dict[str, str], bucket: str) -> ScoreConfig:
    return three_bolts(golden_files, bucket)


def summaries(night: Scans) -> list[dict[str, Any]]:
    uris = [o.uri for page in list_objects(f"{night.summary}/nightly") for o in page]
    assert all(f"/nightly/{TODAY}-" in uri for uri in uris)
    return [json.loads(read_object(uri)[0]) for uri in uris]


def table(config: ScoreConfig) -> pd.DataFrame:
    return pd.read_parquet(f"{config.output}/scores")


def test_a_source_that_fails_does_not_stop_the_others_and_the_summary_tells(
    config: ScoreConfig, bucket: str, received: tuple[str, list[dict[str, Any]]]
) -> None:
    url, messages = received
    put(bucket, {"bad/nut/0.jpg": b"no image", "bad/nut/1.jpg": jpeg(1)})
    night = scans(
        config,
        a=Source(
            name="wrong-model",
            config=replace(config, checkpoint="/nowhere.pth", output=f"{config.output}-a"),
            webhook=url,
        ),
        b=Source(
            name="many-errors",
            config=replace(config, input=(f"s3://{bucket}/bad",), output=f"{config.output}-b"),
        ),
        c=Source(
            name="missing",
            config=replace(config, input=("s3://no-such-bucket/x",), output=f"{config.output}-c"),
        ),
        d=Source(
            name="good", config=config, alert=AlertRule(max_score=0.0, min_count=3), webhook=url
        ),
    )
    done = night_of(night, TODAY)
    assert [(r.source.name, r.status) for r in done.results] == [
        ("wrong-model", "failed"),
        ("many-errors", "too_many_errors"),
        ("missing", "failed"),
        ("good", "done"),
    ]
    assert done.failed == ["wrong-model", "many-errors", "missing"]
    assert done.alerts == ["good"]
    assert len(table(config)) == 3
    shown = done.table()
    assert "no such file" in shown
    assert "images, 50.0%, ended in an error" in shown
    assert "FIRED" in shown
    [written] = summaries(night)
    assert [each["status"] for each in written["sources"]] == [r.status for r in done.results]
    assert written["sources"][3]["counts"]["scored"] == 3
    assert written["sources"][3]["review"]["counts"]["new"] == 3
    assert "secret-path" not in json.dumps(written)
    # Every run that began has its page; the one of a reviewed run shows its thresholds. A first run
    # over nothing leaves no output.
    pages = [each["page"] for each in written["sources"]]
    assert pages.pop(2) is None
    assert pages[2] == f"{config.output}/runs/{done.results[3].run_id}/report.html"
    assert pages[2] in shown
    for page in pages:
        assert read_object(page)[0].startswith(b"<!doctype html>")
    reviewed = read_object(pages[2])[0].decode()
    assert '"alert":{"fired":true' in reviewed
    assert '"why":"the rule\'s max_score"' in reviewed
    [message] = messages
    assert [each["name"] for each in message["sources"]] == ["wrong-model", "good"]
    assert message["text"] == (
        f"AdaCLIP {TODAY}: 3 images of 2 sources scored; ALERT: good; NOT DONE: wrong-model"
    )


def test_an_unchanged_bucket_starts_no_scorer_and_a_webhook_that_fails_is_a_problem(
    config: ScoreConfig,
) -> None:
    url = "http://127.0.0.1:9/secret-path"
    night = scans(config, a=Source(name="a", config=config))
    assert not night_of(night, TODAY).failed
    before = table(config)
    again = scans(config, a=Source(name="a", config=config, webhook=url))
    done = night_of(again, TODAY, scorer=NoScorer)
    assert not done.failed
    assert done.results[0].report["counts"]["skipped"] == 3
    pd.testing.assert_frame_equal(table(config), before)
    assert "http://127.0.0.1:9" in done.problems[0]
    assert "secret-path" not in done.problems[0] + done.table()


def test_another_model_scores_everything_again_and_keeps_the_old_rows(config: ScoreConfig) -> None:
    night_of(scans(config, a=Source(name="a", config=config)), TODAY)
    before = table(config)
    newer = replace(config, precision="bf16")
    night_of(scans(config, a=Source(name="a", config=newer)), TODAY)
    after = table(config)
    assert len(after) == 6
    assert set(before.image_id) < set(after.image_id)
    assert after.image_id.is_unique
    assert after.model.nunique() == 2


def test_a_night_that_is_stopped_tells_what_it_did(config: ScoreConfig, told: list[str]) -> None:
    def stop(line: str) -> None:
        if "looking at the model" in line and "source b (2 / 3)" in told:
            raise KeyboardInterrupt

    other = replace(config, output=f"{config.output}-b")
    night = scans(
        config,
        a=Source(name="a", config=config),
        b=Source(name="b", config=other),
        c=Source(name="c", config=replace(other, output=f"{config.output}-c")),
    )
    with pytest.raises(KeyboardInterrupt), on_each_line(stop):
        night_of(night, TODAY)
    [written] = summaries(night)
    assert [s["status"] for s in written["sources"]] == ["done", "interrupted", "not_run"]
    # Its lock is released: the next night goes on.
    assert not night_of(night.select(("b",)), TODAY).failed


def test_a_night_that_is_stopped_between_two_sources_tells_it_too(
    config: ScoreConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(["20260101T000000Z-first"])

    def next_name() -> str:
        if name := next(names, None):
            return name
        raise KeyboardInterrupt

    monkeypatch.setattr(nightly, "new_run_id", next_name)
    empty = replace(config, input=("s3://no-such-bucket/x",))
    night = scans(config, a=Source(name="a", config=empty), b=Source(name="b", config=config))
    with pytest.raises(KeyboardInterrupt):
        night_of(night, TODAY)
    [written] = summaries(night)
    assert [s["status"] for s in written["sources"]] == ["failed", "not_run"]


def test_what_a_killed_night_found_is_told_by_the_next(config: ScoreConfig) -> None:
    def die(line: str) -> None:
        if line.startswith("source b "):
            raise SystemExit  # like a kill: nothing handles it, no summary is written

    other = replace(config, output=f"{config.output}-b")
    first, second = Source(name="a", config=config), Source(name="b", config=other)
    with pytest.raises(SystemExit), on_each_line(die):
        night_of(scans(config, a=first, b=second), TODAY)
    [killed] = set(table(config).run_id)
    done = night_of(scans(config, a=first), TODAY, scorer=NoScorer)
    [review] = [each.review for each in done.results]
    assert review is not None
    assert (review.untold_runs, review.counts.scored) == ((killed,), 3)
    [result] = night_of(scans(config, a=first), TODAY, scorer=NoScorer).results
    assert result.review is not None
    assert result.review.counts.new == 0


def test_a_locked_output_is_a_failed_source(config: ScoreConfig) -> None:
    night = scans(config, a=Source(name="a", config=config))
    with OutputLock(config.output, run_id="other-run"):
        done = night_of(night, TODAY)
        with pytest.raises(CannotRunError, match=r"run other-run on .* writes to this output"):
            score(config)
    assert done.failed == ["a"]
    assert "run other-run on" in done.results[0].message
    assert {o.uri.split("/")[-1] for page in list_objects(config.output) for o in page} == {
        "lock.json"
    }


def test_a_run_that_loses_its_lock_commits_nothing_more(config: ScoreConfig) -> None:
    def steal(line: str) -> None:
        if "images to score" in line:
            # As after a pause of the machine: no heartbeat for long, and somebody took over.
            write_object(f"{config.output}/lock.json", b'{"run_id": "thief"}')
            monkeypatch.setattr(OutputLock, "check", renewed(OutputLock.check))

    def renewed(check: Any) -> Any:
        def checked(lock: OutputLock) -> None:
            lock._renewed = -1e9
            check(lock)

        return checked

    monkeypatch = pytest.MonkeyPatch()
    try:
        night = scans(config, a=Source(name="a", config=config))
        with on_each_line(steal):
            done = night_of(night, TODAY)
    finally:
        monkeypatch.undo()
    assert done.failed == ["a"]
    assert "taken over by run thief" in done.results[0].message
    assert not list(list_objects(f"{config.output}/scores"))


def test_a_preview_counts_estimates_and_writes_nothing(config: ScoreConfig, bucket: str) -> None:
    everything = f"s3://{bucket}"
    source = Source(name="a", config=config)
    before = objects(everything)
    found = preview(source)
    assert objects(everything) == before
    sizes = sum(o.size for page in list_objects(config.input[0]) for o in page)
    assert (found.manifest.pending, found.manifest.pending_bytes) == (3, sizes)
    assert len(found.first) == 3
    assert "no past run" in found.lines(None)

    put(bucket, {f"in/bolt/{i}.jpg": jpeg(i) for i in range(3, 12)})
    report = score(config)
    put(bucket, {f"in/nut/{i}.jpg": jpeg(i) for i in range(7)})
    before = objects(everything)
    found = preview(source)
    assert objects(everything) == before
    assert (found.manifest.pending, found.manifest.skipped) == (7, 12)
    assert found.rates is not None
    rate = report.as_dict()["images_per_s"]["run"]
    start_s = sum(report.seconds[stage] for stage in ("model", "list", "start"))
    assert found.rates.seconds(7) == pytest.approx(start_s + 7 / rate, rel=0.01)
    shown = found.lines(3600.0)
    assert shown.startswith("a: 7 images (")
    assert "... and 2 more" in shown
    assert f"about {found.rates.seconds(7):,.2f} in money" in shown


def test_limit_since_and_rescore_do_what_they_say(config: ScoreConfig) -> None:
    limited = replace(config, limit=2)
    assert [score(limited).scored for _ in range(3)] == [2, 1, 0]
    old = score(replace(config, since="2100-01-01"))
    assert (old.listed, old.excluded, old.status) == (0, 3, "done")
    new = replace(config, since="1h", rescore=True)
    report = score(new)
    assert (report.scored, report.skipped) == (3, 0)
    rows = table(config)
    assert len(rows) == 6
    assert rows.image_id.nunique() == 3
    latest = open_results(config.output).scores()
    assert set(latest.run_id) == {report.run_id}
    assert len(latest) == 3
    assert score(config).skipped == 3
