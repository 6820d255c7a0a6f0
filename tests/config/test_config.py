"""The scoring job's settings: what can't work is refused by the name of its flag."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import AUTO, BuildReferencesConfig, EvaluateConfig, ModelSpec, ScoreConfig
from pipeline.models import AdaCLIPSettings
from pipeline.packaged import IMAGE_SIZE, SMALL_MODEL
from pipeline.tiling import WHOLE, Tiling
from tests.image_files import hide_extras


def config(**changes: Any) -> ScoreConfig:
    return ScoreConfig(**{"input": ("s3://bucket/images",), "output": "s3://bucket/out", **changes})


def references(**changes: Any) -> BuildReferencesConfig:
    given = {"input": ("s3://bucket/good",), "output": "s3://bucket/refs", **changes}
    return BuildReferencesConfig(**given)


def test_defaults_are_valid_and_date_today() -> None:
    before = datetime.now(UTC).date()
    made = config()
    assert made.scan_date in {before.isoformat(), datetime.now(UTC).date().isoformat()}
    assert made.category is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input", ()),
        ("input", ("",)),
        ("input", ("s3://bucket", "")),
        ("output", ""),
        ("category", ""),
        ("category", "  "),
        ("category_regex", "(?P<category>"),
        ("category_regex", "(?P<class>.*)"),
        ("category_regex", "(.*)"),
        ("image_size", -1),
        ("gpus_per_actor", 1.5),
        ("batch_size", 0),
        ("batch_size", -1),
        ("num_actors", 0),
        ("gpus_per_actor", -0.5),
        ("gpus_per_actor", float("nan")),
        ("gpus_per_actor", float("inf")),
        ("max_error_rate", -0.01),
        ("max_error_rate", 1.01),
        ("max_error_rate", float("nan")),
        ("max_megapixels", 0.0),
        ("max_megapixels", float("nan")),
        ("max_megapixels", float("inf")),
        ("gray_range", (4_095.0, 0.0)),
        ("gray_range", (0.0, float("inf"))),
        ("tiles", 0),
        ("tiles", 65),
        ("tile_size", -1),
        ("tile_size", 1_036),  # without tiles
        ("commit_interval_s", 0.0),
        ("commit_interval_s", -1.0),
        ("commit_interval_s", float("inf")),
        ("since", "yesterday"),
        ("since", "2d ago"),
        ("since", ""),
        ("limit", 0),
        ("gallery", -1),
        ("gallery", 1_001),
        ("lock_wait_s", -1.0),
        ("lock_wait_s", float("inf")),
        ("scan_date", ""),
        ("scan_date", "yesterday"),
        ("scan_date", "2025-02-30"),
        ("scan_date", "20250131"),  # ISO too, but pandas would read the partition as a number
        ("scan_date", "2025-W05-5"),
        ("scan_date", "2025-01-31/../.."),
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_its_flag(field: str, value: Any) -> None:
    flag = "--" + field.replace("_", "-")
    with pytest.raises(ValueError, match=rf"{re.escape(flag)}\b"):
        config(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("category", "metal nut"),
        ("category_regex", r"/(?P<category>[^/]+)/[^/]+$"),
        ("gpus_per_actor", 0),
        ("gpus_per_actor", 0.5),
        ("max_error_rate", 0.0),
        ("max_error_rate", 1.0),
        ("max_megapixels", 0.5),
        ("gallery", 0),
        ("gallery", 1_000),
        ("scan_date", "2024-02-29"),
    ],
)
def test_settings_at_the_edge_are_valid(field: str, value: Any) -> None:
    assert getattr(config(**{field: value}), field) == value


def test_the_specification_of_a_model_holds_all_its_settings() -> None:
    method = {field.name for field in fields(AdaCLIPSettings)}
    weights = {"backbone", "backbone_weights", "checkpoint", "precision", "seed"}
    assert {field.name for field in fields(ModelSpec)} == method | weights
    spec = asdict(config().model_spec)
    assert {name: spec[name] for name in method} == asdict(AdaCLIPSettings())


def test_weights_are_named_in_the_specification_of_a_model() -> None:
    given = config(
        backbone="tiny.json",
        image_size=28,
        backbone_weights="s3://b/w.pt",
        checkpoint="visa_clinicdb",
    )
    spec = given.model_spec
    assert (spec.backbone, spec.backbone_weights) == ("tiny.json", "s3://b/w.pt")
    assert spec.checkpoint == "visa_clinicdb"


def test_settings_cannot_be_changed_and_hold_no_credentials() -> None:
    with pytest.raises(AttributeError):
        config().output = "elsewhere"  # type: ignore[misc]
    names = {field.name for field in fields(ScoreConfig)}
    assert not [n for n in names if "key" in n or "secret" in n or "token" in n or "password" in n]


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-23T18:00", datetime(2026, 11, 23, 18, tzinfo=UTC)),
        ("2026-11-23T18:00Z", datetime(2026, 11, 23, 18, tzinfo=UTC)),
        ("2026-11-23T18:00+02:00", datetime(2026, 11, 23, 16, tzinfo=UTC)),
    ],
)
def test_since_is_a_time_in_utc_unless_it_says_otherwise(since: str, expected: datetime) -> None:
    assert config(since=since).modified_since() == expected


@pytest.mark.parametrize(("since", "hours"), [("36h", 36), ("2d", 48), ("1w", 168)])
def test_since_may_be_a_duration(since: str, hours: int) -> None:
    age = datetime.now(UTC) - (config(since=since).modified_since() or datetime.now(UTC))
    assert abs(age - timedelta(hours=hours)) < timedelta(minutes=1)


def test_only_a_decoder_that_changes_results_adds_to_the_models_name() -> None:
    assert config().decoder_suffix == ""
    assert config(decoder="fast").decoder_suffix == "-fast-decoder"
    assert config(gray_range=(0, 4_095)).decoder_suffix == "-gray0to4095"


def test_all_frames_of_dicom_files_take_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config(dicom_frames="all").decoder_suffix == ""  # other images, the same model
    assert references(dicom_frames="all").score_config().dicom_frames == "all"
    hide_extras(monkeypatch, "dicom")
    assert config().dicom_frames == "first"
    for made in (config, references):
        with pytest.raises(ValueError, match=r'--dicom-frames all .*"adaclip-pipeline\[dicom\]"'):
            made(dicom_frames="all")


def test_tiles_cover_what_the_model_sees_unless_a_size_is_given() -> None:
    assert config(tiles=1).tiling is WHOLE
    tiled = config(tiles=8)
    assert (tiled.tiling, tiled.tile_side) == (Tiling(8, 518), 37)
    assert tiled.decoder_suffix == "-tiles8of518"
    assert config(tiles=8, tile_size=1_036).tiling == Tiling(8, 1_036)


def test_tiles_need_a_backbone_whose_patches_are_known() -> None:
    with pytest.raises(ValueError, match="--tiles takes whole patches, and --backbone own"):
        config(tiles=2, backbone="own.json", image_size=224)


def test_maps_of_tiles_are_measured_at_the_size_of_those_that_the_images_take() -> None:
    given: dict[str, Any] = {"data": ("photos",), "output": "out"}
    assert EvaluateConfig(**given).measured_size(4_096) == 518
    tiled = EvaluateConfig(**given, tiles=4)
    assert [tiled.measured_size(side) for side in (0, 300, 600, 9_000)] == [518, 518, 1_036, 2_072]
    assert EvaluateConfig(**given, tiles=64, tile_size=1_036).measured_size(2_000) == 1_036


# --- references -----------------------------------------------------------------------------


def test_images_are_judged_alone_unless_references_are_asked_for() -> None:
    assert config().references is None
    assert config(references=AUTO, refresh_references=True).refresh_references
    assert config(references="s3://bucket/refs").references == "s3://bucket/refs"


@pytest.mark.parametrize("given", [None, "s3://bucket/refs", "automatic"])
def test_only_references_of_the_outputs_own_can_be_refreshed(given: str | None) -> None:
    with pytest.raises(ValueError, match="--refresh-references goes with --references auto"):
        config(references=given, refresh_references=True)


@pytest.mark.parametrize("given", ["auto", "s3://bucket/refs"])
def test_references_need_the_frozen_pass_at_full_size(given: str) -> None:
    assert config(frozen_image_size=336).references is None
    with pytest.raises(ValueError, match="--references compare what --frozen-image-size leaves"):
        config(references=given, frozen_image_size=336)
    with pytest.raises(ValueError, match="--frozen-image-size"):
        references(frozen_image_size=336)


def test_embeddings_have_no_place_without_maps() -> None:
    assert config(embeddings=True).maps
    with pytest.raises(ValueError, match="--embeddings are kept with the maps"):
        config(embeddings=True, maps=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input", ()),
        ("output", ""),
        ("max_images_per_category", 0),
        ("max_images_per_category", -5),
        ("category", " "),
        ("category_regex", "(.*)"),
        ("image_size", -1),
        ("batch_size", 0),
        ("num_actors", 0),
        ("gpus_per_actor", 1.5),
        ("max_megapixels", 0.0),
        ("max_error_rate", 2.0),
        ("since", "yesterday"),
    ],
)
def test_a_setting_of_references_that_cannot_work_is_refused_by_its_flag(
    field: str, value: Any
) -> None:
    flag = "--" + field.replace("_", "-")
    with pytest.raises(ValueError, match=rf"{re.escape(flag)}\b"):
        references(**{field: value})


def test_a_password_in_the_folder_of_references_is_refused() -> None:
    for made in (config, references):
        with pytest.raises(ValueError, match="holds a password"):
            made(output="s3://user:password@bucket/refs")
    with pytest.raises(ValueError, match="--references holds a password"):
        config(references="https://user:password@host/refs")


def test_references_are_built_with_the_model_and_images_of_the_scoring_job() -> None:
    """Each setting that both jobs have: another value would be another model, or other images."""
    changes: dict[str, Any] = {
        "include": ("*.png",),
        "category_regex": "/(?P<category>[^/]+)/",
        "checkpoint": "visa_clinicdb",
        "image_size": 336,
        "precision": "bf16",
        "decoder": "fast",
        "max_megapixels": 7.0,
        "num_actors": 3,
    }
    made = references(**changes).score_config()
    assert made.model_spec == config(**changes).model_spec
    assert {name: getattr(made, name) for name in changes} == changes
    assert made.decoder_suffix == "-fast-decoder"
    shared = {field.name for field in fields(ScoreConfig)} & {f.name for f in fields(references())}
    for name in shared - {"references", "output", "input", "scan_date"} - set(changes):
        assert getattr(references(), name) == getattr(config(), name)


@pytest.mark.parametrize(
    ("backbone", "size"),
    [
        ("ViT-L-14-336", 518),
        ("ViT-L-14-336-quickgelu", 518),
        ("ViT-B-16", 224),
        ("vit_medium_patch16_gap_256", 256),
        ("ViT-SO400M-14-SigLIP-384", 378),  # 27 patches of 14 pixels
        (SMALL_MODEL["backbone"], IMAGE_SIZE),
    ],
)
def test_the_size_of_images_is_the_backbones_own(backbone: str, size: int) -> None:
    made = config(backbone=backbone)
    assert (made.image_size, made.model_spec.image_size) == (size, size)
    assert made.remarks() == []


def test_the_size_of_images_is_found_in_a_published_configuration(tmp_path: Path) -> None:
    def size(**vision: Any) -> int:
        path = tmp_path / f"{len(vision)}.json"
        architecture = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": {}}
        path.write_text(json.dumps({"model_cfg": architecture, "preprocess_cfg": {}}))
        return config(backbone=str(path)).image_size

    assert size(image_size=280, patch_size=14) == 280
    assert size(timm_model_name="vit_base_patch32_224") == 224
    with pytest.raises(ValueError, match="tells the size of its input"):
        size(timm_model_name="test_vit2", image_size=160, patch_size=16)


def test_another_size_than_the_backbones_own_is_remarked() -> None:
    (remark,) = config(image_size=336).remarks()
    assert "ViT-L-14-336 is used at 518 px" in remark
    assert config(backbone="a model of my own", image_size=100).remarks() == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"image_size": 512},
            "--image-size 512 .* used at 518, .* are 504 and 518",
        ),
        ({"frozen_image_size": 330}, "--frozen-image-size 330 .* 322 and 336"),
        ({"backbone": "ViT-Z-99"}, "--backbone ViT-Z-99: there is no .* open_clip.list_models"),
        ({"backbone": "/nowhere/clip.json"}, "--backbone /nowhere/clip.json"),
    ],
)
def test_a_size_that_the_backbone_cannot_see_is_refused(
    settings: dict[str, Any], words: str
) -> None:
    for made in (config, references):
        with pytest.raises(ValueError, match=words):
            made(**settings)


def test_a_model_has_one_name() -> None:
    small = config(model="small").model_spec
    assert asdict(small) | SMALL_MODEL == asdict(small)
    assert config(model="mvtec_colondb") == config(
        checkpoint="mvtec_colondb", model="mvtec_colondb"
    )
    assert (
        config(model="s3://b/mine.pth").model_spec
        == config(checkpoint="s3://b/mine.pth").model_spec
    )
    made = config(model="small")
    assert replace(made, limit=3).model_spec == small, (
        "settings that are changed later hold it, too"
    )


@pytest.mark.parametrize("flag", ["backbone", "backbone_weights", "checkpoint"])
def test_a_model_is_not_named_twice(flag: str) -> None:
    with pytest.raises(
        ValueError, match=f"--model small says what --{flag.replace('_', '-')} says"
    ):
        config(model="small", **{flag: "another"})


def test_an_unknown_name_of_a_model_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no model of that name; known are small, all, mvtec_colo"):
        config(model="smal")
