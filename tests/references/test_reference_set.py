"""The file of a reference set: the same judgement before and after, and what is no such file."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor

from pipeline.references import (
    Judge,
    Judgement,
    Look,
    Readings,
    ReferenceImage,
    ReferenceSet,
    Sums,
    build,
    screens_of,
)
from pipeline.references.reference_set import FORMAT

from .siblings import PATCHES, Line

ONE, OTHER = Line(seed=10, noise=0.2), Line(seed=11, noise=0.2)


@pytest.fixture(scope="module")
def references() -> ReferenceSet:
    """Two looks, found without labels among images of which two are damaged."""
    tokens = torch.cat(
        [ONE.tokens(range(20)), OTHER.tokens(range(10)), ONE.tokens(range(30, 32), "own")]
    )
    screens = screens_of(tokens, unlabelled=True)
    return build('a "b": c*/ü', "model-1", ONE.seen(tokens), screens=screens, unlabelled=True)


@pytest.fixture(scope="module")
def file(references: ReferenceSet) -> bytes:
    return references.to_bytes()


def judged(references: ReferenceSet) -> Judgement:
    """Ten images: four that were looked at, and of each look new ones, half of them damaged."""
    seen = ONE.seen(torch.cat([ONE.tokens(range(2)), OTHER.tokens(range(2))]))
    names = [*seen.images[:2], *ONE.seen(OTHER.tokens(range(2)), 20).images]
    for line in (ONE, OTHER):
        for damage in ("", "own"):
            tokens = torch.cat([seen.tokens, line.tokens(range(50, 52), damage)])
            seen = line.seen(tokens)
            names += line.seen(tokens[:2], 50 + len(names)).images
    judge = Judge(references, torch.device("cpu"))
    return judge.judge(names, seen.tokens, seen.embeddings, seen.grids, seen.logits)


def told(data: bytes) -> dict[str, object]:
    """The header's metadata."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    found: dict[str, object] = json.loads(header["__metadata__"]["references"])
    return found


def changed(data: bytes, tensors: dict[str, Tensor] | None = None, **changes: object) -> bytes:
    """The file with other tensors or metadata; None leaves an entry out."""
    metadata = {k: v for k, v in {**told(data), **changes}.items() if v is not None}
    return save({**load(data), **(tensors or {})}, metadata={"references": json.dumps(metadata)})


# --- what is kept ---------------------------------------------------------------------------


def test_a_set_judges_the_same_before_and_after_its_file(
    references: ReferenceSet, file: bytes
) -> None:
    before, after = judged(references), judged(ReferenceSet.from_bytes(file))
    for name in ("logit_grid", "score_logit", "reference_logit"):
        one, other = getattr(before, name), getattr(after, name)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert torch.equal(before.nearest, after.nearest)


def test_all_that_is_said_of_a_set_comes_back(references: ReferenceSet, file: bytes) -> None:
    found = ReferenceSet.from_bytes(file)
    for name in (
        *("category", "model", "unlabelled", "images", "look_of"),
        *("num_looked_at", "abnormal_share", "created"),
    ):
        assert getattr(found, name) == getattr(references, name)
    assert isinstance(found.images[0], ReferenceImage)
    assert torch.equal(found.embeddings, references.embeddings)
    assert len(found.looks) == len(references.looks) == 2
    for one, other in zip(found.looks, references.looks, strict=True):
        assert one.sums.num_images == other.sums.num_images
        assert one.sums.num_patches == other.sums.num_patches
        for name in ("distances", "grids", "logits"):
            assert torch.equal(getattr(one.readings, name), getattr(other.readings, name))
    assert sum(each.sums.num_images for each in found.looks) == len(found.images)


def test_a_file_read_and_written_again_says_the_same(file: bytes) -> None:
    again = ReferenceSet.from_bytes(file).to_bytes()
    assert told(again) == told(file)
    one, other = load(again), load(file)
    for name, each in one.items():
        torch.testing.assert_close(each, other[name], rtol=1e-6, atol=1e-7)


def test_the_same_set_is_the_same_file(references: ReferenceSet, file: bytes) -> None:
    assert references.to_bytes() == file


def test_subtraction_is_as_exact_after_the_file_as_before(
    references: ReferenceSet, file: bytes
) -> None:
    """Its covariance is float32: without one image, moments still differ by rounding alone."""
    one = Sums.of(ONE.tokens(range(1)))
    before, after = (
        (each.looks[0].sums - one).moments() for each in (references, ReferenceSet.from_bytes(file))
    )
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(after[1], before[1], rtol=0, atol=1e-8)


def test_a_category_of_the_large_model_takes_at_most_ten_megabytes() -> None:
    """Width 1,024 and 37 x 37 patches as ViT-L at 518 px, 500 images with 768 wide embeddings."""
    generator = torch.Generator().manual_seed(0)
    tokens = F.normalize(torch.randn(1, 3, 40, 1024, generator=generator), dim=-1)
    distances, grids, logits = torch.zeros(2 * 1369 + 1, 32, dtype=torch.float16).split(
        [1369, 1369, 1]
    )
    found = ReferenceSet(
        category="metal nut",
        model="ViT-L-14-336-518-float32-0123456789abcdef",
        unlabelled=True,
        images=tuple(
            ReferenceImage(f"s3://bucket/a/long/prefix/{i}.png", "e" * 32) for i in range(500)
        ),
        look_of=(0,) * 500,
        looks=(Look(Sums.of(tokens), Readings(distances.mT, grids.mT, logits[0])),),
        embeddings=torch.zeros(500, 768, dtype=torch.float16),
        num_looked_at=500,
    )
    assert 6.2e6 < len(found.to_bytes()) < 10e6


# --- what is no such file -------------------------------------------------------------------

REFUSED = "no reference set, or a damaged one"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"short",
        b"\xff" * 8,
        b"\xff\xd8\xff\xe0" + bytes(1_000),
        b"PAR1" + bytes(100) + b"PAR1",
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"null",
        (2**63).to_bytes(8, "little") + b"{}",
        save({"weight": torch.zeros(3)}),
        save({"weight": torch.zeros(3)}, metadata={"references": "{}"}),
        save({"weight": torch.zeros(3)}, metadata={"references": "no json"}),
    ],
)
def test_a_foreign_file_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=REFUSED):
        ReferenceSet.from_bytes(data)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(file: bytes, share: float) -> None:
    with pytest.raises(ValueError, match=REFUSED):
        ReferenceSet.from_bytes(file[: round(share * len(file))])


def test_a_file_with_something_behind_it_is_refused(file: bytes) -> None:
    with pytest.raises(ValueError, match=REFUSED):
        ReferenceSet.from_bytes(file + b"x")


def test_a_header_with_a_flipped_byte_is_refused_or_still_read(file: bytes) -> None:
    """No byte makes it fail in any other way."""
    length = 8 + int.from_bytes(file[:8], "little")
    refused = []
    for position in range(0, length, 7):
        damaged = bytearray(file)
        damaged[position] ^= 0x11
        try:
            ReferenceSet.from_bytes(bytes(damaged))
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) > length / 7 / 4
    assert all(REFUSED in each for each in refused)


def test_another_version_of_the_format_is_named(file: bytes) -> None:
    with pytest.raises(ValueError, match=rf"its format is 'adaclip-references-9', not '{FORMAT}'"):
        ReferenceSet.from_bytes(changed(file, format="adaclip-references-9"))


@pytest.mark.parametrize("name", ["category", "images", "look_of", "num_looks", "num_looked_at"])
def test_missing_metadata_is_named(file: bytes, name: str) -> None:
    with pytest.raises(ValueError, match=f"{REFUSED}: '{name}'"):
        ReferenceSet.from_bytes(changed(file, **{name: None}))


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("mean", torch.zeros(3)),
        ("mean", torch.zeros(3, 31)),
        ("mean", torch.zeros(2, 32)),
        ("covariance", torch.zeros(3, 10)),
        ("covariance", torch.zeros(528)),
        ("counts", torch.zeros(3)),
        ("counts", torch.tensor(3)),
    ],
)
def test_tensors_that_do_not_fit_together_are_refused(
    file: bytes, name: str, tensor: Tensor
) -> None:
    with pytest.raises(ValueError, match=REFUSED):
        ReferenceSet.from_bytes(changed(file, {f"look1.{name}": tensor}))


def test_a_look_that_is_missing_is_refused(file: bytes) -> None:
    with pytest.raises(ValueError, match=REFUSED):
        ReferenceSet.from_bytes(changed(file, num_looks=3))


def test_a_lone_image_survives_its_file() -> None:
    seen = ONE.seen(ONE.tokens(range(1)))
    screens = screens_of(seen.tokens, unlabelled=False)
    lone = build("bolt", "m", seen, screens=screens, unlabelled=False)
    found = ReferenceSet.from_bytes(lone.to_bytes())
    assert found.looks[0].readings.distances.shape == (1, PATCHES)
    one, other = judged(lone), judged(found)
    torch.testing.assert_close(one.score_logit, other.score_logit, rtol=1e-5, atol=1e-5)
