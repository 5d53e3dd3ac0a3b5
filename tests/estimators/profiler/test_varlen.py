"""Attention kernels of CUDA, as far as a CPU can tell: what they are handed, and when they are used."""

import pytest

torch = pytest.importorskip("torch", reason="the profiler's kernels need torch")

from estimators.profiler.kernels import backends  # noqa: E402
from estimators.profiler.kernels.attention import attend, attend_chunk, attend_decodes  # noqa: E402
from estimators.profiler.kernels.varlen import VARLEN  # noqa: E402


def attention_by_starts(q, k_cache, v_cache, block_tables, starts, kv_lens, max_q, max_kv, scale):
    """What a kernel for batches computes, from what it is handed."""
    queries = starts.diff().tolist()
    assert max_q == max(queries)
    assert max_kv >= int(kv_lens.max())
    assert starts.dtype == kv_lens.dtype == block_tables.dtype == torch.int32
    return backends.naive_attention(q, k_cache, v_cache, block_tables, queries, kv_lens.tolist(), scale)


@pytest.fixture
def kernel(monkeypatch):
    """A kernel called "new" that is right, and the only one."""

    def use(function):
        monkeypatch.setitem(VARLEN, "new", function)
        monkeypatch.setattr(backends, "VARLEN", {"new": function})

    backends.try_backends.cache_clear()
    yield use
    backends.try_backends.cache_clear()


class Device:
    """Says it is a CUDA device; tensors sent to it stay."""

    type = "cuda"


@pytest.fixture
def device(monkeypatch):
    real = torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor, "to", lambda x, *to, **how: real(x, *(y for y in to if not isinstance(y, Device)), **how)
    )
    return Device()


def test_a_kernel_for_batches_gets_one_call_for_all_requests(kernel):
    kernel(attention_by_starts)
    generator = torch.Generator().manual_seed(0)
    cache = torch.rand(2, 6, 8, 2, 16, generator=generator)
    q = torch.rand(5, 4, 16, generator=generator)
    tables = torch.arange(6, dtype=torch.int32).view(2, 3)
    for query_lens, kv_lens in (([1, 4], [9, 20]), ([4, 1], [4, 24])):
        got = attend(q, cache[0], cache[1], tables, query_lens, kv_lens, 0.2, "new")
        assert torch.allclose(got, attend(q, cache[0], cache[1], tables, query_lens, kv_lens, 0.2), atol=1e-6)
    lens = torch.tensor([9, 20], dtype=torch.int32)
    decodes = [attend_decodes(q[:2], cache[0], cache[1], tables, lens, 0.2, *name) for name in ((), ("new",))]
    assert torch.allclose(*decodes, atol=1e-6)
    chunks = [attend_chunk(q, cache[0], cache[1], tables[0], 7, 0.2, *name) for name in ((), ("new",))]
    assert torch.allclose(*chunks, atol=1e-6)


def test_a_kernel_is_used_if_it_computes_attention(kernel, device):
    kernel(lambda q, *others: attention_by_starts(q.float(), *(x.float() for x in others[:2]), *others[2:]))
    assert backends.try_backends(device, 16) == ("new", ())


def test_a_kernel_that_is_wrong_or_refuses_is_left_out_with_a_sentence(kernel, device):
    kernel(lambda q, *others: torch.zeros_like(q))
    name, (sentence,) = backends.try_backends(device, 16)
    assert name == "torch_sdpa_per_request"
    assert sentence.startswith("Attention kernel new was not used: it is off by")

    def refuse(*arguments):
        raise RuntimeError("Paged KV cache block size must be divisible by 256\nat line 7")

    kernel(refuse)
    _, (sentence,) = backends.try_backends(device, 32)
    assert sentence == (
        "Attention kernel new was not used with blocks of 32 tokens: "
        "Paged KV cache block size must be divisible by 256."
    )


def test_torchs_kernel_is_called_as_its_page_says(monkeypatch):
    varlen = pytest.importorskip("torch.nn.attention.varlen", reason="this torch has no varlen attention")
    import inspect

    real, calls = inspect.signature(varlen.varlen_attn), []
    if "block_table" not in real.parameters:
        pytest.skip("this torch's varlen attention takes no block table")
    monkeypatch.setattr(varlen, "varlen_attn", lambda *args, **named: calls.append(real.bind(*args, **named)))
    VARLEN["torch_varlen"]("q", "k", "v", "tables", "starts", "lens", 1, 64, 0.1)
    told = calls[0].arguments
    assert (told["query"], told["block_table"], told["seqused_k"], told["cu_seq_q"]) == (
        "q",
        "tables",
        "lens",
        "starts",
    )
    assert (told["max_q"], told["max_k"], told["window_size"], told["enable_gqa"]) == (1, 64, (-1, 0), True)
