import importlib

import pytest

torch = pytest.importorskip("torch", reason="needs torch, which the extra 'profile' brings")
latent = importlib.import_module("estimators.profiler.kernels.latent")


def _naive(q, k, v, history, scale):
    """Of one head: queries (chunk, width), keys and values (history + chunk, width)."""
    return torch.stack(
        [torch.softmax(scale * (k[: history + i + 1] @ q[i]), 0) @ v[: history + i + 1] for i in range(len(q))]
    )


@pytest.mark.parametrize(("chunk", "history"), [(1, 0), (5, 0), (1, 7), (5, 7)])
def test_chunks_over_expanded_heads(chunk: int, history: int):
    torch.manual_seed(0)
    q, k, v = (
        torch.randn(2, 3, chunk, 24),
        torch.randn(2, 3, history + chunk, 24),
        torch.randn(2, 3, history + chunk, 16),
    )
    out = latent.attend_expanded(q, k, v, history, 0.2)
    assert out.shape == (2, 3, chunk, 16)
    for i in range(2):
        for head in range(3):
            torch.testing.assert_close(out[i, head], _naive(q[i, head], k[i, head], v[i, head], history, 0.2))


def test_decodes_over_the_compressed_cache():
    torch.manual_seed(0)
    cache = torch.randn(8, 4, 12)
    tables = torch.tensor([[5, 2, 0], [1, 7, 3]], dtype=torch.int32)
    lens = torch.tensor([6, 9], dtype=torch.int32)
    q = torch.randn(2, 3, 12)
    out = latent.attend_latent(q, cache, tables, lens, 8, 0.2)
    assert out.shape == (2, 3, 8)
    for i in range(2):
        keys = cache[tables[i].long()].reshape(-1, 12)[: lens[i]]
        for head in range(3):
            expected = torch.softmax(0.2 * (keys @ q[i, head]), 0) @ keys[:, :8]
            torch.testing.assert_close(out[i, head], expected)


def test_each_head_has_its_own_matrix():
    torch.manual_seed(0)
    x, weights = torch.randn(5, 3, 8), torch.randn(3, 8, 4)
    out = latent.multiply_heads(x, weights)
    for head in range(3):
        torch.testing.assert_close(out[:, head], x[:, head] @ weights[head])
