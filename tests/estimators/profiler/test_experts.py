import importlib

import numpy as np
import pytest

from estimators.errors import EstimatorError

torch = pytest.importorskip("torch", reason="needs torch, which the extra 'profile' brings")
experts = importlib.import_module("estimators.profiler.kernels.experts")


@pytest.mark.parametrize("load", [0, 101, 120])
@pytest.mark.parametrize(("tokens", "topk", "count"), [(1, 2, 8), (7, 8, 8), (100, 2, 8), (3, 6, 64), (1000, 8, 128)])
def test_counts_and_choices_agree(tokens: int, topk: int, count: int, load: int):
    draws = np.random.default_rng(0)
    counts = experts.draw_counts(tokens, topk, count, load, draws)
    assert counts.shape == (count,)
    assert counts.sum() == tokens * topk
    assert counts.min() >= 0
    assert counts.max() <= tokens
    chosen = experts.choices(counts, tokens, draws)
    assert chosen.shape == (tokens, topk)
    assert all(len(set(row)) == topk for row in chosen)
    np.testing.assert_array_equal(np.bincount(chosen.ravel(), minlength=count), counts)


def test_balanced_counts_differ_by_one_and_are_spread():
    counts = experts.draw_counts(3, 2, 12, 0, np.random.default_rng(0))
    np.testing.assert_array_equal(counts.reshape(6, 2).sum(axis=1), 1)
    assert np.ptp(experts.draw_counts(100, 3, 16, 0, np.random.default_rng(0))) <= 1


def test_a_power_law_is_steeper_where_its_exponent_is_larger():
    draws = np.random.default_rng(1)
    shares = [
        np.mean([experts.draw_counts(2000, 2, 64, load, draws).max() for _ in range(50)]) / 2000
        for load in (0, 101, 200)
    ]
    assert shares[0] < 0.04
    assert 0.1 < shares[1] < shares[2]


def test_more_experts_per_token_than_there_are_is_refused():
    with pytest.raises(EstimatorError, match="topk 9 is more than the 8 experts"):
        experts.draw_counts(4, 9, 8, 0, np.random.default_rng(0))


def test_the_fullest_gpu_sees_its_own_experts():
    chosen = np.array([[0, 5], [4, 5], [2, 4]])
    np.testing.assert_array_equal(experts.on_fullest(chosen, 6, 2), [[2, 1], [0, 1], [2, 0]])
    np.testing.assert_array_equal(experts.on_fullest(chosen, 6, 6), chosen)
    # 7 experts over 4 at most: the second GPU has three.
    np.testing.assert_array_equal(experts.on_fullest(np.array([[6, 5]]), 7, 4), [[2, 1]])


def _naive(x, chosen, weights, gate_up, down):
    out = torch.zeros_like(x)
    for token, (row, shares) in enumerate(zip(chosen.tolist(), weights, strict=True)):
        for expert, share in zip(row, shares, strict=True):
            if expert < len(gate_up):
                gate, up = (gate_up[expert] @ x[token]).chunk(2)
                out[token] += share * (down[expert] @ (torch.nn.functional.silu(gate) * up))
    return out


@pytest.mark.parametrize("local", [6, 2])
def test_experts_equal_those_of_one_token_after_the_other(local: int):
    torch.manual_seed(0)
    draws = np.random.default_rng(0)
    whole = experts.choices(experts.draw_counts(11, 3, 6, 120, draws), 11, draws)
    chosen = torch.from_numpy(experts.on_fullest(whole, 6, local))
    rows = int((chosen < local).sum())
    assert rows < 33 or local == 6
    x, weights = torch.randn(11, 16), torch.rand(11, 3)
    gate_up, down = torch.randn(local, 16, 16), torch.randn(local, 16, 8)
    naive = _naive(x, chosen, weights, gate_up, down)
    by_loop = experts.run_experts(x, chosen, weights, gate_up, down, rows, experts.grouped_by_loop)
    torch.testing.assert_close(by_loop, naive)


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="this torch has no grouped product")
def test_both_grouped_products_agree():
    torch.manual_seed(0)
    x, weights = torch.randn(9, 16).bfloat16(), torch.randn(4, 8, 16).bfloat16()
    ends = torch.tensor([2, 2, 8, 9], dtype=torch.int32)
    torch.testing.assert_close(
        experts.grouped_at_once(x, weights, ends), experts.grouped_by_loop(x, weights, ends), rtol=0.02, atol=0.05
    )
