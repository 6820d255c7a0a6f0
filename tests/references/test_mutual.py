"""Mutual scoring: the recorded values of MuSc's own code, and exact distances on hard tokens."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.references import mutual
from pipeline.references.mutual import (
    MAX_IMAGES,
    aggregate,
    image_scores,
    mutual_grid,
    mutual_scores,
    rescore,
)
from tests import golden

GOLDEN = {key: torch.from_numpy(value) for key, value in golden.mutual_values().items()}
TIGHT = {"rtol": 0.0, "atol": 1e-5}


def unit(*shape: int, seed: int = 0) -> Tensor:
    """Random vectors of unit length."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(shape, generator=generator), dim=-1)


def clusters(spread: float, images: int = 6, patches: int = 300, width: int = 64) -> Tensor:
    """Unit tokens [M, N, C] around ten points, most of them nearly as near as the nearest one."""
    labels = torch.arange(images * patches).reshape(images, patches) % 10
    noise = unit(images, patches, width, seed=1)
    return F.normalize(unit(10, width)[labels] + spread * noise, dim=-1)


def directly(tokens: Tensor, share: float = 0.3) -> Tensor:
    """Scores [M, N] by the definition, in float64."""
    tokens, found = tokens.double(), []
    for i, image in enumerate(tokens):
        others = [
            torch.cdist(image, other, compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1)
            for j, other in enumerate(tokens)
            if j != i
        ]
        nearest = torch.stack(others).sort(dim=0).values
        found.append(nearest[: int(share * len(others))].mean(dim=0))
    return torch.stack(found)


def assert_exact(tokens: Tensor, share: float = 0.3) -> None:
    """The scores are those of float64."""
    scores = mutual_scores(tokens, share=share)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores.double(), directly(tokens, share), rtol=0, atol=1e-6)


# --- recorded values ------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [1, 3, 5])
def test_aggregated_tokens_are_the_recorded_ones(radius: int) -> None:
    aggregated = aggregate(GOLDEN["tokens"], radius)
    torch.testing.assert_close(aggregated, GOLDEN[f"aggregated/r{radius}"], **TIGHT)


@pytest.mark.parametrize("radius", [1, 3, 5])
def test_patch_scores_are_the_recorded_ones(radius: int) -> None:
    scores = torch.stack([mutual_scores(layer) for layer in GOLDEN[f"aggregated/r{radius}"]])
    torch.testing.assert_close(scores.double(), GOLDEN[f"patch_scores/r{radius}"], **TIGHT)


def test_grid_map_and_image_scores_are_the_recorded_ones() -> None:
    grid = mutual_grid(GOLDEN["tokens"])
    torch.testing.assert_close(grid.double(), GOLDEN["grid"], **TIGHT)
    torch.testing.assert_close(image_scores(grid, 70).double(), GOLDEN["image_scores"], **TIGHT)
    maps = F.interpolate(grid[:, None], (70, 70), mode="bilinear", align_corners=True)
    torch.testing.assert_close(maps[:, 0], GOLDEN["map"], **TIGHT)


@pytest.mark.parametrize("windows", [(1, 2, 3), (1, 8, 9)])
def test_rescored_images_are_the_recorded_ones(windows: tuple[int, ...]) -> None:
    scores = rescore(GOLDEN["image_scores"].float(), GOLDEN["class_embeddings"], windows=windows)
    torch.testing.assert_close(scores, GOLDEN[f"rescored/k{'_'.join(map(str, windows))}"], **TIGHT)


# --- aggregate ------------------------------------------------------------------------------


def test_a_window_counts_zeros_outside_the_image() -> None:
    tokens = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    normed = F.layer_norm(tokens, (9, 4))
    corner = normed[[0, 1, 3, 4]].sum(dim=0)
    torch.testing.assert_close(aggregate(tokens, 3)[0], F.normalize(corner, dim=0))
    assert torch.equal(aggregate(tokens[None, None], 3)[0, 0], aggregate(tokens, 3))


def test_half_precision_tokens_are_aggregated_in_float32() -> None:
    tokens = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert torch.equal(aggregate(tokens, 3), aggregate(tokens.float(), 3))


@pytest.mark.parametrize("radius", [-1, 0, 2])
def test_a_window_without_a_centre_is_refused(radius: int) -> None:
    with pytest.raises(ValueError, match="odd"):
        aggregate(torch.zeros(4, 2), radius)


def test_patches_that_are_no_square_are_refused() -> None:
    with pytest.raises(ValueError, match="12 patches are not a square grid"):
        mutual_grid(torch.randn(1, 5, 12, 4))


# --- mutual_scores: exact -------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_scores_are_those_of_the_definition(share: float) -> None:
    assert_exact(unit(9, 100, 32), share)


@pytest.mark.parametrize("width", [1, 2, 3, 1024])
def test_any_width_is_exact(width: int) -> None:
    assert_exact(unit(5, 50, width))


def test_a_single_patch_is_exact() -> None:
    assert_exact(unit(7, 1, 16))


# From well apart over many near ties to closer than the cosine of two float32 tokens can tell.
@pytest.mark.parametrize("spread", [1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5])
def test_near_ties_are_exact(spread: float) -> None:
    assert_exact(clusters(spread))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_tokens_lose_nothing_further(dtype: torch.dtype) -> None:
    assert_exact(clusters(0.1).to(dtype))


def test_channels_much_larger_than_the_others_are_exact() -> None:
    tokens = torch.randn(6, 200, 64, generator=torch.Generator().manual_seed(0))
    tokens[..., 3] += 100
    tokens[..., 5] *= 30
    assert_exact(F.normalize(tokens, dim=-1))


def test_one_image_far_from_all_others_is_exact() -> None:
    tokens = clusters(0.01)
    tokens[2] = unit(300, 64, seed=7)
    assert_exact(tokens)


def test_copies_have_distance_zero() -> None:
    tokens = unit(6, 100, 64)
    tokens[4] = tokens[1]
    tokens[5, :50] = tokens[0, 50:]
    scores = mutual_scores(tokens, share=0.2)  # the nearest image alone
    assert (scores[[1, 4]] == 0).all()
    assert (scores[5, :50] == 0).all()
    assert (scores[0, 50:] == 0).all()
    assert (scores[[2, 3]] > 0.1).all()
    assert_exact(tokens, 0.2)


def test_equal_patches_everywhere_have_score_zero() -> None:
    assert torch.equal(mutual_scores(unit(64).expand(5, 200, 64)), torch.zeros(5, 200))
    assert torch.equal(mutual_scores(torch.zeros(5, 200, 8)), torch.zeros(5, 200))


def test_too_many_near_ties_for_the_grid_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutual, "CROWDED", 0)
    assert_exact(clusters(0.01))


def test_many_near_ties_take_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutual, "CHUNK", 7)
    assert_exact(clusters(0.1, patches=50))


def test_processors_without_int8_products_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = clusters(0.1)
    scores = mutual_scores(tokens)
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert torch.equal(mutual_scores(tokens), scores)


def test_rounding_leaves_few_patches_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be exact and slow otherwise."""
    checked = []
    monkeypatch.setattr(
        mutual, "_distances", lambda *args: checked.append(len(args[2])) or args[0][args[2], 0]
    )
    mutual_scores(unit(5, 300, 256))
    assert max(checked) < 1.5 * 2 * 300


# --- mutual_scores: what it means -----------------------------------------------------------


def test_an_image_is_not_its_own_neighbour() -> None:
    tokens = clusters(0.01)
    tokens[3, :20] = unit(64, seed=5)  # a defect, twenty patches large, like nothing else
    scores = mutual_scores(tokens)
    assert scores[3, :20].min() > 10 * scores[3, 20:].max()


def test_the_order_of_images_and_patches_does_not_matter() -> None:
    tokens = unit(6, 40, 16)
    images, patches = torch.tensor([3, 0, 5, 1, 4, 2]), torch.arange(39, -1, -1)
    shuffled = mutual_scores(tokens[images][:, patches])
    torch.testing.assert_close(shuffled, mutual_scores(tokens)[images][:, patches])


def test_scores_are_the_same_every_time_and_leave_the_random_numbers_alone() -> None:
    tokens = clusters(0.3)
    torch.manual_seed(0)
    first, drawn = mutual_scores(tokens), torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3), drawn)
    assert torch.equal(mutual_scores(tokens), first)


# --- mutual_scores: errors ------------------------------------------------------------------


@pytest.mark.parametrize("images", [0, 1, 4])
def test_too_few_images_are_refused(images: int) -> None:
    with pytest.raises(ValueError, match=f"at least 5 images.*there are {images}"):
        mutual_scores(torch.zeros(images, 4, 2))


def test_too_many_images_are_refused_with_what_to_do_instead() -> None:
    with pytest.raises(ValueError, match=r"501 are more than 500.*sample.*Gaussian"):
        mutual_scores(torch.zeros(MAX_IMAGES + 1, 1, 1))


@pytest.mark.parametrize("share", [-0.3, 0.0, 0.1, 1.2])
def test_a_share_without_an_image_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="of 6 other images"):
        mutual_scores(torch.zeros(7, 4, 2), share=share)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_tokens_that_are_not_numbers_are_refused(value: float) -> None:
    tokens = unit(1, 6, 9, 4)
    tokens[0, 3, 2, 1] = value
    with pytest.raises(ValueError, match="image 3 are not all finite"):
        mutual_scores(tokens[0])
    with pytest.raises(ValueError, match="image 3 are not all finite"):
        mutual_grid(tokens)


@pytest.mark.parametrize("shape", [(6, 4), (1, 6, 4, 2), (6, 0, 2), (6, 4, 0)])
def test_other_shapes_of_tokens_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[images, patches, width\]"):
        mutual_scores(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(6, 4, 2), (0, 6, 4, 2)])
def test_other_shapes_for_a_grid_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[layers, images, patches, width\]"):
        mutual_grid(torch.zeros(shape))


# --- rescore --------------------------------------------------------------------------------


def test_a_window_of_one_only_scales() -> None:
    scores = torch.tensor([3.0, 1.0, 2.0])
    same = unit(1, 8).expand(3, 8)  # ties: an image still counts as the one nearest to itself
    torch.testing.assert_close(rescore(scores, same, windows=[1]), torch.tensor([1.0, 0.0, 0.5]))


def test_a_window_of_all_equal_images_is_their_mean() -> None:
    scores = torch.tensor([3.0, 1.0, 2.0])
    rescored = rescore(scores, unit(1, 8).expand(3, 8), windows=[3])
    torch.testing.assert_close(rescored, torch.full((3,), 0.5))


def test_equal_scores_stay_equal() -> None:
    assert torch.equal(rescore(torch.full((4,), 0.7), unit(4, 8)), torch.zeros(4))


@pytest.mark.parametrize("windows", [(0, 1), (1, 5)])
def test_windows_of_no_or_too_many_images_are_refused(windows: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="from 1 to 4 images"):
        rescore(torch.rand(4), unit(4, 8), windows=windows)
