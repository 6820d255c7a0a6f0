"""The scoring graph on a real local Ray, against folders and a real S3 server."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from pipeline.benchmark.stand_in import StandInScorer
from pipeline.config import ScoreConfig
from pipeline.distributed import scoring
from pipeline.distributed.graph import scoring_graph
from pipeline.distributed.resources import Resources
from pipeline.distributed.scoring import score_bucket
from pipeline.errors import CannotRunError
from pipeline.identity import ModelIdentity
from pipeline.inputs.manifest import build_manifest
from pipeline.models import load_adaclip, save_checkpoint
from pipeline.models.weight_cache import fetch
from pipeline.output.ledger import IdSet
from pipeline.output.reference_catalogue import ReferencesInUse
from tests import golden
from tests.bucket import BROKEN, jpeg, put
from tests.faults.proxy import Proxy, running
from tests.listening import on_each_line

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture
def config(golden_files: dict[str, str], tmp_path: Path) -> ScoreConfig:
    """Score a folder with the golden model."""
    return ScoreConfig(
        input=(str(tmp_path / "images"),),
        output=str(tmp_path / "scores"),
        image_size=golden.IMAGE_SIZE,
        max_error_rate=1.0,
        **golden_files,  # type: ignore[arg-type]
    )


# Where no figure of the model is looked at: loading it takes longer than all else of a run.
run = partial(score_bucket, scorer=StandInScorer)


def write(folder: Path, objects: dict[str, bytes]) -> None:
    for key, body in objects.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


def table(config: ScoreConfig) -> pd.DataFrame:
    return pd.read_parquet(f"{config.output}/scores")


def by_key(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(key=frame.uri.str.rsplit("/", n=1).str[1]).set_index("key").sort_index()


def test_scores_and_maps_are_the_models(config: ScoreConfig, golden_files: dict[str, str]) -> None:
    folder = Path(config.input[0])
    for i, (name, category) in enumerate(golden.CASES):
        write(folder / category, {name: golden.image_bytes(i)})
    report = score_bucket(config)
    assert (report.status, report.scored, report.num_errors) == ("done", 4, 0)
    rows = by_key(table(config))
    model = golden.load(golden_files)
    for i, (name, category) in enumerate(golden.CASES):
        pixels, _ = golden.batch([i])
        expected = model.predict(pixels, [category])
        row = rows.loc[name]
        assert row.category == category
        assert row.score == pytest.approx(expected.score.item(), abs=1e-5)
        shard = pq.read_table(f"{config.output}/{row.map_file}").slice(int(row.map_row), 1)
        assert shard["image_id"][0].as_py() == row.image_id
        grid = np.array(shard["logit_grid_q8"][0].as_py()).reshape(12, 12) / 256
        np.testing.assert_allclose(grid, expected.logit_grid[0].numpy(), atol=0.02, rtol=1e-3)


def test_every_object_of_a_bucket_becomes_a_row(config: ScoreConfig, bucket: str) -> None:
    keys = [
        "a b.jpg",
        "50%.jpg",
        "x#y.jpg",
        "p+q.jpg",
        "größe-測定.jpg",
        "c::d.jpg",
    ]
    broken = {key: body for key, (body, _) in BROKEN.items()}
    put(bucket, {f"in/odd/{key}": jpeg(i) for i, key in enumerate(keys)})
    put(bucket, {f"in/{key}": body for key, body in broken.items()})
    config = replace(config, input=(f"s3://{bucket}/in",), output=f"s3://{bucket}/out")
    report = run(config)
    assert report.as_dict()["counts"] == {
        "listed": 9,
        "scored": 6,
        "skipped": 0,
        "errors_before": 0,
        "errors": 3,
        "not_reached": 0,
        "excluded": 0,
    }
    rows = table(config).set_index("uri")
    for key in keys:
        assert rows.loc[f"s3://{bucket}/in/odd/{key}"].score >= 0
    for key, (_, code) in BROKEN.items():
        row = rows.loc[f"s3://{bucket}/in/{key}"]
        assert row.error == code
        assert pd.isna(row.score)
        assert row.error_message
    stored = boto3.client("s3").get_object(
        Bucket=bucket, Key=f"out/runs/{report.run_id}/report.json"
    )
    assert json.loads(stored["Body"].read())["errors"] == {c: 1 for _, c in BROKEN.values()}


def test_a_second_run_adds_nothing_and_a_third_only_what_is_new(
    config: ScoreConfig, told: list[str]
) -> None:
    folder = Path(config.input[0])
    write(folder, {f"bolt/{i}\n.jpg": jpeg(i) for i in range(5)} | {"bolt/bad.jpg": b"bad"})
    first = run(config)
    assert (first.scored, first.num_errors) == (5, 1)
    second = run(config)
    assert (second.listed, second.skipped, second.num_done) == (6, 6, 0)
    assert any("nothing to score" in line for line in told)
    write(folder, {"bolt/7.jpg": jpeg(7), "bolt/0\n.jpg": jpeg(70)})
    third = run(config)
    assert (third.skipped, third.scored) == (5, 2)
    rows = table(config)
    assert len(rows) == 8
    assert rows.image_id.is_unique


def test_an_error_that_may_pass_is_tried_again(config: ScoreConfig, tmp_path: Path) -> None:
    images = tmp_path / "images"
    write(images, {"a.jpg": jpeg(0)})
    listing = tmp_path / "list.csv"
    listing.write_text(f"uri\n{images}/a.jpg\n{images}/late.jpg\n")
    config = replace(config, input=(str(listing),), category="bolt")
    assert run(config).errors == {"not_found": 1}
    write(images, {"late.jpg": jpeg(1)})
    report = run(config)
    assert (report.skipped, report.scored, report.num_errors) == (1, 1, 0)
    assert table(config).error.isna().sum() == 2


def test_another_model_scores_everything_again(config: ScoreConfig) -> None:
    write(Path(config.input[0]), {"a/0.jpg": jpeg(0), "a/1.jpg": jpeg(1)})
    run(config)
    run(replace(config, precision="bf16"))
    rows = table(config)
    assert rows.model.nunique() == 2
    assert len(rows) == 4


def test_results_do_not_depend_on_batches_and_actors(config: ScoreConfig, tmp_path: Path) -> None:
    write(Path(config.input[0]), {f"c{i % 3}/{i}.jpg": jpeg(i) for i in range(11)})
    one = replace(config, batch_size=1, output=str(tmp_path / "one"))
    many = replace(config, batch_size=7, num_actors=2, output=str(tmp_path / "many"))
    score_bucket(one)
    score_bucket(many)
    a, b = table(one).sort_values("image_id"), table(many).sort_values("image_id")
    assert list(a.image_id) == list(b.image_id)
    np.testing.assert_allclose(a.score, b.score, atol=1e-5)
    np.testing.assert_allclose(a.map_max, b.map_max, atol=1e-3)


def test_too_many_errors_is_a_failure_with_all_rows_written(config: ScoreConfig) -> None:
    write(Path(config.input[0]), {"a/0.jpg": jpeg(0), "a/1.jpg": b""})
    report = run(replace(config, max_error_rate=0.4))
    assert report.status == "too_many_errors"
    assert len(table(config)) == 2


def test_a_failed_run_that_is_repeated_fails_again(config: ScoreConfig, told: list[str]) -> None:
    folder = Path(config.input[0])
    write(folder, {"a/0.jpg": jpeg(0), "a/notes.txt": b"hello", "a/more.txt": b"hello"})
    config = replace(config, max_error_rate=0.05)
    assert run(config).status == "too_many_errors"
    again = run(config)
    assert (again.status, again.num_done) == ("too_many_errors", 0)
    assert again.as_dict()["errors_before"] == {"not_an_image": 2}
    assert any("1 scored before, 2 not_an_image before" in line for line in told)
    assert run(replace(config, count_known_errors=False)).status == "done"
    assert run(replace(config, exclude=("*.txt",))).status == "done"


def test_maps_can_be_left_out(config: ScoreConfig) -> None:
    write(Path(config.input[0]), {"a/0.jpg": jpeg(0)})
    run(replace(config, maps=False))
    assert not (Path(config.output) / "maps").exists()
    assert table(config).map_file.isna().all()


def test_a_too_large_image_is_scored_once_the_limit_allows_it(
    config: ScoreConfig,
) -> None:
    write(Path(config.input[0]), {"a/0.jpg": jpeg(0, (400, 300))})
    small = replace(config, max_megapixels=0.1)
    assert run(small).errors == {"too_large": 1}
    assert run(small).skipped == 1
    assert run(config).scored == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"checkpoint": "/nowhere/model.pth"}, "no such file"),
        ({"backbone": "ViT-Z-99"}, "unknown backbone"),
        ({"prompt_depth": 99}, "prompt_depth=99 must be within"),
        ({"output": "/proc/nothing/here"}, "output can't be written"),
        ({"num_actors": 3}, "lower --num-actors"),
        ({"input": ("/nowhere/at/all",)}, "input can't be listed"),
        ({"include": ("*.nothing",)}, "no object below"),
    ],
)
def test_what_cannot_work_is_one_sentence_before_any_scoring(
    config: ScoreConfig, change: dict[str, Any], words: str
) -> None:
    write(Path(config.input[0]), {"a/0.jpg": jpeg(0)})
    with pytest.raises(CannotRunError, match=words):
        score_bucket(replace(config, **change))
    assert not (Path(config.output) / "scores").exists()


def test_an_empty_prefix_may_be_allowed(config: ScoreConfig) -> None:
    Path(config.input[0]).mkdir()
    assert score_bucket(replace(config, allow_empty=True)).status == "done"


def test_reading_is_not_fused_into_the_scorers(config: ScoreConfig) -> None:
    """Decoding inside the actors would leave the GPUs waiting for one CPU."""
    write(Path(config.input[0]), {"a/0.jpg": jpeg(0), "a/1.jpg": jpeg(1)})
    manifest = build_manifest(config, ModelIdentity("model"), IdSet(), f"{config.output}/manifest")
    graph = scoring_graph(
        manifest,
        Resources(num_actors=1, gpus_per_actor=0, cpus_per_actor=1, batch_size=1),
        image_size=168,
        max_megapixels=1,
        scorer=PassThrough,
        scorer_arguments={},
    )
    stats = graph.materialize().stats()
    assert "PassThrough" in stats
    assert "read_images)->" not in stats


class PassThrough:
    """Takes the scorer's place in the graph."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The batch itself."""
        return batch


def pages(config: ScoreConfig) -> list[dict[str, Any]]:
    """The data of every run's page, oldest first."""
    found = []
    for path in sorted(Path(config.output).glob("runs/*/report.html")):
        text = path.read_text()
        start = text.index('id="data">') + len('id="data">')
        found.append(json.loads(text[start : text.index("</script>", start)]))
    return found


def test_every_run_leaves_a_page_of_its_own_rows(config: ScoreConfig, told: list[str]) -> None:
    write(Path(config.input[0]), {f"bolt/{i}.jpg": jpeg(i) for i in range(3)} | {"x/0.jpg": b""})
    first = run(config)
    assert first.page_problem == ""
    write(Path(config.input[0]), {"bolt/7.jpg": jpeg(7)})
    run(replace(config, gallery=0))
    before, after = pages(config)
    assert before["counts"] == {"scored": 3, "errors": 1, "over": 0}
    assert sorted(row["uri"][-5:] for row in before["gallery"]) == ["0.jpg", "1.jpg", "2.jpg"]
    assert before["runs"][0]["counts"]["listed"] == 4
    assert after["counts"]["scored"] == 1
    assert after["categories"][0]["past"][0] == 3
    assert after["gallery"] == []
    assert first.as_dict()["page_problem"] == ""


def test_a_page_that_cannot_be_written_does_not_change_the_run(
    config: ScoreConfig, monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    def fail(*_: Any, **__: Any) -> bytes:
        raise OSError("no space left")

    monkeypatch.setattr("pipeline.report.page.make_page", fail)
    write(Path(config.input[0]), {"bolt/0.jpg": jpeg(0)})
    report = run(config)
    assert (report.status, report.page_problem) == ("done", "OSError: no space left")
    assert told[-1] == "report.html can't be written: OSError: no space left"
    [written] = Path(config.output).glob("runs/*/report.json")
    found = json.loads(written.read_text())
    assert (found["status"], found["page_problem"]) == ("done", "OSError: no space left")


def test_a_run_that_fails_has_a_page_that_says_why(config: ScoreConfig) -> None:
    write(Path(config.input[0]), {"bolt/0.jpg": jpeg(0)})
    with pytest.raises(CannotRunError):
        score_bucket(replace(config, checkpoint="/nowhere/model.pth"))
    [page] = pages(config)
    assert page["runs"][0]["status"] == "failed"
    assert "no such file" in page["runs"][0]["message"]


def test_weights_that_change_under_a_run_stop_it(config: ScoreConfig, tmp_path: Path) -> None:
    """Rows must not be committed under the fingerprint of other weights."""
    write(Path(config.input[0]), {"a/0.jpg": jpeg(0)})
    checkpoint = tmp_path / "latest.pth"
    checkpoint.write_bytes(Path(config.checkpoint).read_bytes())

    def replace_weights(line: str) -> None:
        if "images to score" in line:
            other = load_adaclip(backbone=config.backbone, backbone_weights=None)
            save_checkpoint(other, checkpoint)

    changed = "the weights changed since the run began"
    with pytest.raises(ray.exceptions.RayError, match=changed), on_each_line(replace_weights):
        score_bucket(replace(config, checkpoint=str(checkpoint)))
    assert not (Path(config.output) / "scores").exists()


def test_the_fast_decoder_is_another_model_to_the_ledger(config: ScoreConfig) -> None:
    write(Path(config.input[0]), {"a/0.jpg": jpeg(0)})
    exact, fast = run(config), run(replace(config, decoder="fast"))
    assert (exact.scored, fast.scored) == (1, 1)
    assert fast.model == f"{exact.model}-fast-decoder"
    rows = table(config)
    assert set(rows.model) == {exact.model, fast.model}
    assert rows.image_id.nunique() == 2
    assert run(replace(config, decoder="fast")).skipped == 1


def test_scorers_of_a_node_share_one_download(bucket: str, tmp_path: Path) -> None:
    put(bucket, {"weights.pth": b"weights" * 100_000})
    proxy = Proxy(os.environ["AWS_ENDPOINT_URL"], lambda *_: None)
    with running(proxy) as endpoint:
        variables = {"AWS_ENDPOINT_URL": endpoint, "XDG_CACHE_HOME": str(tmp_path / "cache")}

        @ray.remote(num_cpus=1, runtime_env={"env_vars": variables})
        def actor() -> int:
            return fetch(f"s3://{bucket}/weights.pth").stat().st_size

        sizes = ray.get([actor.remote() for _ in range(3)])
    assert sizes == [700_000] * 3
    asked = proxy.requests.items()
    gets = {path: n for (method, path), n in asked if method == "GET" and "/weights.pth" in path}
    assert list(gets.values()) == [1]


def test_references_of_one_category_score_it_again_and_no_other(
    config: ScoreConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bolts get references, then others; nuts never do. The scorers need not know them here."""
    folder = Path(config.input[0])
    write(folder, {f"{name}/{name}{i}.jpg": jpeg(i) for i in range(3) for name in ("bolt", "nut")})

    def score(**ids: str) -> tuple[int, int]:
        used = ReferencesInUse("s3://b/refs", {name: (one, "") for name, one in ids.items()})
        monkeypatch.setattr(scoring, "find_references", lambda *_, **__: used)
        report = score_bucket(config, scorer=StandInScorer, page=False)
        assert report.as_dict()["references"].get("sets", {}) == ids
        return report.scored, report.skipped

    assert score() == (6, 0)
    before = by_key(table(config))
    assert score(bolt="1") == (3, 3)
    assert score(bolt="1") == (0, 6)
    assert score(bolt="2") == (3, 3)
    assert score() == (0, 6), "as before there were any"
    rows = table(config)
    assert len(rows) == 12
    assert rows.image_id.is_unique
    kept = by_key(rows[rows.run_id == before.run_id.iloc[0]])
    pd.testing.assert_frame_equal(kept, before, check_categorical=False)
    fingerprint = before.model.iloc[0]
    assert set(rows[rows.category == "nut"].model) == {fingerprint}
    assert set(rows[rows.reference_set == "2"].model) == {f"{fingerprint}+refs-2"}
    assert set(rows[rows.reference_set.notna()].category) == {"bolt"}
