"""Mutual scoring beside cdist: rows that add up, and the same scores."""

from __future__ import annotations

import pytest
import torch

from pipeline.benchmark.mutual import TOKENS, directly, measure_mutual
from pipeline.references.mutual import mutual_scores


def test_every_kind_of_tokens_is_measured_against_cdist() -> None:
    threads = torch.get_num_threads()
    found = measure_mutual(6, 100, 64)
    assert [row["tokens"] for row in found] == list(TOKENS)
    for row in found:
        assert (row["mutual_pairs"], row["peer_pairs"], row["peer_pairs_measured"]) == (15, 30, 30)
        assert row["max_deviation"] < 1e-4
        assert row["speed_up"] == pytest.approx(row["peer_s"] / row["mutual_s"], rel=0.01)
        assert row["tokens_bytes"] == 6 * 100 * 64 * 4
        assert 0 <= row["memory_bytes"] < 100e6
    assert torch.get_num_threads() == threads


def test_a_peer_that_takes_too_long_is_extrapolated() -> None:
    found = measure_mutual(6, 50, 16, peer_limit_s=0)
    assert {row["peer_pairs_measured"] for row in found} == {5}
    assert {row["peer_pairs"] for row in found} == {30}


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_have_unit_length_and_the_peer_gives_mutual_scores(name: str) -> None:
    tokens = TOKENS[name](7, 60, 32)
    assert tokens.shape == (7, 60, 32)
    torch.testing.assert_close(tokens.norm(dim=-1), torch.ones(7, 60))
    peer = torch.stack([directly(tokens, i) for i in range(7)])
    torch.testing.assert_close(mutual_scores(tokens), peer, rtol=0, atol=1e-4)


def test_a_patch_of_a_cluster_is_near_the_other_images() -> None:
    near, far = (mutual_scores(TOKENS[name](5, 200, 32)) for name in ("clustered", "independent"))
    assert near.mean() < far.mean() / 2
