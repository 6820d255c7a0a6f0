"""Images beside their references: what is judged by what, and that batches don't matter."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from pipeline.references import (
    EXACT_BELOW,
    NONE_NEAR,
    Gaussian,
    Judge,
    Judgement,
    ReferenceSet,
    Seen,
    Sums,
    build,
)

from .siblings import PATCHES, Line, only, shuffled

CPU = torch.device("cpu")
ONE, OTHER = Line(seed=10, noise=0.2), Line(seed=11, noise=0.2)
PARTS = ("logit_grid", "score_logit", "reference_logit")


def judged(references: ReferenceSet, seen: Seen, chosen: Sequence[int] | None = None) -> Judgement:
    """Images, or some of them, beside a set."""
    seen = seen if chosen is None else only(seen, torch.tensor(chosen))
    return Judge(references, CPU).judge(
        seen.images, seen.tokens, seen.embeddings, seen.grids, seen.logits
    )


def good(count: int) -> ReferenceSet:
    """Of the images 0 to ``count`` − 1 of one line, all known to be good."""
    return build("bolt", "m", Line().seen(Line().tokens(range(count))), unlabelled=False)


def unseen() -> Seen:
    """Five good images and five damaged ones."""
    line = Line()
    tokens = torch.cat([line.tokens(range(100, 105)), line.tokens(range(105, 110), "own")])
    return line.seen(tokens, 100)


def assert_same(one: Judgement, other: Judgement, tolerance: float) -> None:
    for name in PARTS:
        torch.testing.assert_close(
            getattr(one, name), getattr(other, name), rtol=tolerance, atol=tolerance
        )
    assert one.nearest.tolist() == other.nearest.tolist()


def by_hand(references: ReferenceSet, distances: Tensor, seen: Seen) -> Tensor:
    """The reference logits of a set of one look, from distances [B, N]."""
    [look] = references.looks
    return look.scale().judge(distances, seen.grids, seen.logits).reference_logit


# --- damage ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 20, 40])
def test_damaged_images_are_above_good_ones(count: int) -> None:
    found = judged(good(count), unseen())
    assert found.logit_grid.shape == (10, PATCHES)
    assert found.score_logit.shape == found.reference_logit.shape == (10,)
    assert found.reference_logit[5:].min() > found.reference_logit[:5].max()
    assert found.score_logit[5:].mean() > found.score_logit[:5].mean() + 1


def test_a_map_is_highest_where_the_damage_is() -> None:
    """Of siblings that share nearly all, whose distances count more than AdaCLIP's own map."""
    references = build("bolt", "m", ONE.seen(ONE.tokens(range(14))), unlabelled=False)
    damaged, clean = ONE.tokens(range(100, 106), "own"), ONE.tokens(range(100, 106))
    damage = (damaged != clean).any(dim=3).any(dim=1)
    assert damage.sum(dim=1).tolist() == [12] * 6
    found = judged(references, ONE.seen(damaged, 100))
    for grid, where in zip(found.logit_grid, damage, strict=True):
        assert grid[where].mean() > grid[~where].mean() + 2
        assert where[grid.topk(6).indices].all()


# --- references that are judged themselves --------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, EXACT_BELOW - 1])
def test_one_of_few_references_is_judged_as_by_a_set_that_never_had_it(count: int) -> None:
    """Its own patches are taken out of the sums; 1e-4 is what the file's float32 leaves."""
    line = Line()
    seen = line.seen(line.tokens(range(count)))
    for references in (good(count), ReferenceSet.from_bytes(good(count).to_bytes())):
        found = judged(references, seen)
        for i in (0, count - 1):
            others = torch.cat([seen.tokens[:i], seen.tokens[i + 1 :]])
            distances = Gaussian.fit(Sums.of(others)).distances(seen.tokens[i : i + 1])
            expected = by_hand(references, distances, only(seen, torch.tensor([i])))
            torch.testing.assert_close(
                found.reference_logit[i : i + 1], expected, rtol=0, atol=1e-4
            )


def test_one_of_many_references_is_judged_by_all_of_them() -> None:
    line, references = Line(), good(EXACT_BELOW)
    seen = line.seen(line.tokens(range(4)))
    distances = Gaussian.fit(references.looks[0].sums).distances(seen.tokens)
    expected = by_hand(references, distances, seen)
    torch.testing.assert_close(judged(references, seen).reference_logit, expected)


def test_a_lone_reference_is_judged_by_itself() -> None:
    found = judged(good(1), Line().seen(Line().tokens(range(1))))
    assert found.score_logit.isfinite().all()
    assert found.nearest.tolist() == [NONE_NEAR]


def test_an_image_with_the_name_of_a_reference_and_another_etag_is_another_image() -> None:
    line, references = Line(), good(6)
    seen = line.seen(line.tokens(range(1)))
    judge = Judge(references, CPU)
    arguments = (seen.tokens, seen.embeddings, seen.grids, seen.logits)
    own = judge.judge(seen.images, *arguments)
    replaced = judge.judge([(seen.images[0].uri, "another")], *arguments)
    assert judge.uri(int(replaced.nearest)) == seen.images[0].uri
    assert judge.uri(NONE_NEAR) is None
    assert own.nearest != replaced.nearest
    assert (own.reference_logit > replaced.reference_logit + 0.5).all()


def test_the_nearest_reference_is_the_one_that_looks_most_like_the_image() -> None:
    line, references = Line(), good(9)
    seen = line.seen(line.tokens(range(9)))
    copies = line.seen(line.tokens(range(9)), 500)  # of other names, with the same embeddings
    judge = Judge(references, CPU)
    found = judge.judge(copies.images, seen.tokens, seen.embeddings, seen.grids, seen.logits)
    assert [judge.uri(i) for i in found.nearest.tolist()] == [uri for uri, _ in seen.images]
    own = judged(references, seen)
    likeness = seen.embeddings @ seen.embeddings.mT
    likeness.fill_diagonal_(-2)
    assert torch.equal(own.nearest, likeness.argmax(dim=1))


# --- batches --------------------------------------------------------------------------------


def test_images_are_judged_one_by_one_and_in_any_order() -> None:
    line, references = Line(), good(8)
    known = line.seen(line.tokens(range(3)))  # references among others
    seen = Seen(
        known.images + unseen().images,
        *(
            torch.cat([getattr(known, name), getattr(unseen(), name)])
            for name in ("tokens", "embeddings", "grids", "logits")
        ),
    )
    together = judged(references, seen)
    for i in range(len(seen.images)):
        alone = judged(references, seen, [i])
        for name in PARTS:
            one, other = getattr(alone, name)[0], getattr(together, name)[i]
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
        assert alone.nearest[0] == together.nearest[i]
    order = shuffled(len(seen.images)).tolist()
    turned = judged(references, seen, order)
    for name in PARTS:
        one, other = getattr(turned, name), getattr(together, name)[order]
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_judging_changes_nothing_in_the_set() -> None:
    line, judge = Line(), Judge(good(6), CPU)
    seen = line.seen(line.tokens(range(8)))
    arguments = (seen.images, seen.tokens, seen.embeddings, seen.grids, seen.logits)
    assert_same(judge.judge(*arguments), judge.judge(*arguments), 0.0)


def test_memory_is_told() -> None:
    judge = Judge(good(6), CPU)
    sums, gaussian = 3 * 32 * 32 * 8, 3 * (32 * 32 + 32) * 4
    assert judge.nbytes == sums + gaussian + 6 * 16 * 4


# --- looks ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_looks() -> ReferenceSet:
    """Of 20 images of one product and 12 of another."""
    tokens = torch.cat([ONE.tokens(range(20)), OTHER.tokens(range(20, 32))])
    found = build("bolt", "m", ONE.seen(tokens), unlabelled=False)
    assert len(found.looks) == 2
    return found


def test_an_image_is_judged_by_the_look_that_it_is_nearest_to(two_looks: ReferenceSet) -> None:
    for number, line in enumerate((ONE, OTHER)):
        tokens = torch.cat([line.tokens(range(50, 54)), line.tokens(range(54, 58), "own")])
        seen = line.seen(tokens, 50)
        found = judged(two_looks, seen)
        look = two_looks.looks[number]
        distances = Gaussian.fit(look.sums).distances(tokens)
        expected = look.scale().judge(distances, seen.grids, seen.logits)
        torch.testing.assert_close(found.score_logit, expected.score_logit)
        torch.testing.assert_close(found.logit_grid, expected.logit_grid)
        assert found.reference_logit[4:].min() > found.reference_logit[:4].max()


def test_what_is_like_no_look_is_abnormal(two_looks: ReferenceSet) -> None:
    stranger = Line(seed=12, noise=0.2)
    found = judged(two_looks, stranger.seen(stranger.tokens(range(4)), 70))
    assert (found.reference_logit > 3).all()


def test_a_reference_is_judged_by_the_others_of_its_look(two_looks: ReferenceSet) -> None:
    seen = ONE.seen(torch.cat([ONE.tokens(range(20)), OTHER.tokens(range(20, 32))]))
    found = judged(two_looks, seen, [25])
    others = torch.cat([seen.tokens[20:25], seen.tokens[26:]])
    distances = Gaussian.fit(Sums.of(others)).distances(seen.tokens[25:26])
    one = only(seen, torch.tensor([25]))
    expected = two_looks.looks[1].scale().judge(distances, one.grids, one.logits)
    torch.testing.assert_close(found.reference_logit, expected.reference_logit, rtol=0, atol=1e-4)


def test_sums_that_are_no_use_are_told() -> None:
    blank = torch.zeros(2, 3, PATCHES, 32)
    blank[..., 0] = 1
    references = good(2)
    [look] = references.looks
    damaged = ReferenceSet(
        **{
            **vars(references),
            "looks": (type(look)(Sums.of(blank), look.readings),),
        }
    )
    with pytest.raises(ValueError, match="are they blank"):
        Judge(damaged, CPU)
