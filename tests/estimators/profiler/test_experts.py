import importlib

import numpy as np
import pytest

from estimators.profiler.choices import choices, draw_counts, on_fullest

torch = pytest.importorskip("torch", reason="needs torch, which the extra 'profile' brings")
experts = importlib.import_module("estimators.profiler.kernels.experts")


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
    whole = choices(draw_counts(11, 3, 6, 120, draws), 11, draws)
    chosen = torch.from_numpy(on_fullest(whole, 6, local))
    rows = int((chosen < local).sum())
    assert rows < 33 or local == 6
    x, weights = torch.randn(11, 16), torch.rand(11, 3)
    gate_up, down = torch.randn(local, 16, 16), torch.randn(local, 16, 8)
    naive = _naive(x, chosen, weights, gate_up, down)
    by_loop = experts.run_experts(x, chosen, weights, gate_up, down, rows, experts.grouped_by_loop)
    torch.testing.assert_close(by_loop, naive, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="this torch has no grouped product")
def test_both_grouped_products_agree():
    torch.manual_seed(0)
    x, weights = torch.randn(9, 16).bfloat16(), torch.randn(4, 8, 16).bfloat16()
    ends = torch.tensor([2, 2, 8, 9], dtype=torch.int32)
    torch.testing.assert_close(
        experts.grouped_at_once(x, weights, ends), experts.grouped_by_loop(x, weights, ends), rtol=0.02, atol=0.05
    )
