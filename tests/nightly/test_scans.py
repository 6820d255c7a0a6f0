"""scans.yaml: what it means, and that every mistake in it is told before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.calibration import Calibration, Limit, write_calibration
from pipeline.nightly.alerts import AlertRule
from pipeline.nightly.scans import Scans, ScansError, load_scans
from tests.bucket import put

EXAMPLE = Path(__file__).parents[2] / "infra" / "scans.example.yaml"
SECRET = "https://hooks.example.com/T0/very-secret-path"


@pytest.fixture(autouse=True)
def webhook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADACLIP_WEBHOOK", SECRET)


def load(tmp_path: Path, text: str) -> Scans:
    (tmp_path / "scans.yaml").write_text(text)
    return load_scans(str(tmp_path / "scans.yaml"))


def source(**changes: Any) -> dict[str, Any]:
    return {"name": "a", "input": "s3://b/in", "output": "s3://b/out", **changes}


def document(*sources: dict[str, Any], **changes: Any) -> str:
    return yaml.safe_dump({"summary": "s3://b/ops", "sources": list(sources), **changes})


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ScansError) as refused:
        load(tmp_path, text)
    prefix = f"{tmp_path}/scans.yaml: "
    return [line.removeprefix(prefix) for line in str(refused.value).splitlines()]


def test_the_example_is_right_and_says_what_it_means() -> None:
    scans = load_scans(str(EXAMPLE))
    line_1, bolts, archive = scans.sources
    assert scans.summary == "s3://factory-scores/ops"
    assert (line_1.config.checkpoint, line_1.config.include) == ("all", ("*.jpg", "*.png"))
    assert line_1.config.max_error_rate == 0.02
    assert line_1.alert == AlertRule(score_quantile=0.999, min_count=3)
    assert bolts.config.category == "bolt"
    assert len(bolts.config.input) == 2
    assert bolts.alert == AlertRule(
        score_quantile=0.999, min_count=3, area_quantile=0.995, max_score=0.9
    )
    assert (archive.alert, archive.config.limit) == (None, 200_000)
    assert {each.webhook for each in scans.sources} == {SECRET}


def test_a_source_names_the_tables_that_it_is_published_to(tmp_path: Path) -> None:
    two = ["delta://s3://b/table", "iceberg://prod/factory/scores"]
    text = document(source(publish=two), source(name="b", output="s3://b/2", publish=two[0] + "2"))
    first, second = load(tmp_path, text).sources
    assert [each.uri for each in first.publish] == two
    assert [each.uri for each in second.publish] == ["delta://s3://b/table2"]


def test_tables_that_can_not_be_are_told_of(tmp_path: Path) -> None:
    text = document(
        source(publish=["s3://b/table"]),
        source(name="b", output="s3://b/2", publish="delta:///data/x"),
        source(name="c", output="s3://b/3", publish=["delta:///data/x"]),
        defaults={"publish": "delta:///data/x"},
    )
    told = mistakes(tmp_path, text)
    assert any(each.startswith("defaults.publish is not known") for each in told)
    assert any(each.startswith("source a.publish 's3://b/table' is no table") for each in told)
    text = document(
        source(publish="delta:///data/x"),
        source(name="b", output="s3://b/2", publish=["delta:///data/x"]),
    )
    assert mistakes(tmp_path, text) == [
        "source b.publish is also that of a; give each source a table of its own"
    ]


def test_secrets_are_not_shown_with_the_scans() -> None:
    assert "very-secret-path" not in repr(load_scans(str(EXAMPLE)))


def test_all_mistakes_are_told_at_once_with_place_and_remedy(tmp_path: Path) -> None:
    text = document(
        source(name="a", chekpoint="all", batch_size="four"),
        source(name="a b", output="s3://b/2"),
        {"name": "c", "output": "s3://b/3"},
        source(name="d", output="s3://b/4", max_error_rate=5),
        source(name="e", output="s3://b/5", alert={"score_quantile": 2}),
        source(name="f", output="s3://b/6", webhook="ftp://x/y"),
        source(name="g", output="s3://b/7", category_regex="("),
        source(name="h", output="s3://b/8", rescore=True),
        source(name="i", output="s3://b/9", precision="fp8"),
        defaults={"checkpoint": 7, "output": "s3://b/same"},
        sumary="s3://b/ops",
    )
    told = mistakes(tmp_path, text)
    for expected in (
        "sumary is not known; did you mean 'summary'?",
        "defaults.output is not known",
        "defaults.checkpoint input should be a valid string",
        "sources[1].chekpoint is not known; did you mean 'checkpoint'?",
        "source a.batch_size input should be a valid integer",
        "sources[2].name must be a short name",
        "source c.input is missing",
        "source d max_error_rate is a share between 0 and 1",
        "source e.alert alert score_quantile is 2",
        "source f.webhook must be a URL",
        "source g category_regex is not a regular expression",
        "sources[8].rescore is for the whole night; give --rescore to the job",
        "source i.precision input should be 'fp32' or 'bf16'",
    ):
        assert [line for line in told if line.startswith(expected)], (expected, told)
    assert len([line for line in told if "checkpoint input" in line]) == 1


def test_two_sources_may_not_share_a_name_or_an_output(tmp_path: Path) -> None:
    text = document(source(), source(output="s3a://b/out/"))
    assert mistakes(tmp_path, text) == [
        "source a has the name of another one",
        "source a.output is also that of a; give each source one of its own",
    ]


def test_a_summary_below_an_input_would_be_scored(tmp_path: Path) -> None:
    assert (
        "summary lies below an input of a"
        in mistakes(tmp_path, document(source(input="s3://b")))[0]
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "sources must be a list"),
        ("[]", "the file must be a mapping"),
        ("sources: [", "can't be read"),
        ("summary: s\nsources: [a]", "sources[1] must be a mapping"),
        ("summary: a\nsummary: b", "'summary' comes twice"),
        ("summary: s\nsources:\n- {name: a, input: i, output: o, output: p}", "'output' comes"),
        ("summary: s\nsources:\n- {name: a, input: [], output: o}", "input needs at least one"),
        ("summary: s\nsources:\n- {name: a, input: i, output: ''}", "output is empty"),
        ("!!python/object/apply:os.system ['true']", "can't be read"),
    ],
)
def test_what_is_no_scans_yaml_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ScansError) as refused:
        load(tmp_path, text)
    assert words in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScansError, match=r"nothing\.yaml can't be read"):
        load_scans(str(tmp_path / "nothing.yaml"))


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    text = document(source(webhook="${NO_SUCH_VARIABLE}"))
    assert mistakes(tmp_path, text)[0] == (
        "sources[1].webhook needs the environment variable NO_SUCH_VARIABLE, which is not set"
    )


def test_mistakes_do_not_quote_what_came_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "canary-in-the-mine")
    text = document(source(webhook="${CANARY}", batch_size="${CANARY}", precision="${CANARY}"))
    assert "canary" not in " ".join(mistakes(tmp_path, text))


def test_it_may_lie_in_a_bucket(bucket: str) -> None:
    put(bucket, {"ops/scans.yaml": document(source()).encode()})
    assert load_scans(f"s3://{bucket}/ops/scans.yaml").sources[0].name == "a"


def test_sources_are_selected_by_name_and_their_settings_replaced() -> None:
    scans = load_scans(str(EXAMPLE))
    one = scans.select(("archive",)).override(limit=5, scan_date="2026-01-02")
    assert [each.name for each in one.sources] == ["archive"]
    assert one.sources[0].config == replace(
        scans.sources[2].config, limit=5, scan_date="2026-01-02"
    )
    with pytest.raises(ScansError, match="no source 'archiv'; did you mean 'archive'"):
        scans.select(("archiv",))
    with pytest.raises(ValueError, match="--limit"):
        scans.override(limit=0)


def test_thresholds_that_are_not_there_are_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    rule = {"thresholds": f"{tmp_path}/missing.json", "measure": "map_max"}
    other = source(name="b", output="s3://b/2", thresholds=f"{tmp_path}/bad.json")
    text = document(source(alert=rule), other)
    told = mistakes(tmp_path, text)
    assert len(told) == 2
    assert told[0].startswith("source a.alert.thresholds can't be used: ")
    assert "missing.json" in told[0]
    assert told[1].startswith("source b.thresholds can't be used: ")
    assert "holds no thresholds" in told[1]


def test_thresholds_that_are_there_are_taken(tmp_path: Path) -> None:
    limit = Limit(value=0.5, num_images=9, num_above=0, bound=0.3)
    made: dict[str, Any] = {"model": "m", "false_alarm_rate": 0.3, "confidence": 0.9}
    uri = f"{tmp_path}/t.json"
    write_calibration(uri, Calibration(**made, limits={"bolt": {"score": limit}}))
    (found,) = load(tmp_path, document(source(alert={"thresholds": uri}, thresholds=uri))).sources
    assert found.alert == AlertRule(thresholds=uri)
    assert found.config.thresholds == uri
