import pytest

torch = pytest.importorskip("torch", reason="the profiler's kernels need torch")

from estimators.profiler.kernels import functions  # noqa: E402
from estimators.profiler.kernels.attention import attend, attend_chunk, attend_decodes  # noqa: E402
from estimators.profiler.kernels.backends import choose_backend, naive_attention  # noqa: E402
from estimators.profiler.kernels.fusion import fused_on_cuda  # noqa: E402

BLOCK = 8


@pytest.fixture
def random():
    return torch.Generator().manual_seed(1)


def numbers(random, *shape: int):
    return torch.rand(*shape, generator=random) * 2 - 1


def test_a_norm_divides_by_the_root_of_the_mean_square(random):
    x, residual, weight = numbers(random, 3, 16), numbers(random, 3, 16), numbers(random, 16)
    right = x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight
    assert torch.allclose(functions.rms_norm(x, weight, 1e-3), right, atol=1e-6)
    normed, total = functions.add_rms_norm(x, residual, weight, 1e-3)
    assert torch.equal(total, x + residual)
    assert torch.allclose(normed, functions.rms_norm(x + residual, weight, 1e-3))


def test_rotation_turns_pairs_of_numbers_and_leaves_the_rest(random):
    tokens, half, rest = 5, 4, 6
    q, k = numbers(random, tokens, 3, 2 * half + rest), numbers(random, tokens, 1, 2 * half + rest)
    angles = numbers(random, tokens, half)
    for before, after in zip((q, k), functions.rotate(q, k, angles.cos(), angles.sin()), strict=True):
        turned = torch.complex(before[..., :half], before[..., half : 2 * half]) * torch.exp(1j * angles).unsqueeze(1)
        assert torch.allclose(after, torch.cat((turned.real, turned.imag, before[..., 2 * half :]), -1), atol=1e-6)


def test_element_wise_operators(random):
    x, y = numbers(random, 4, 6), numbers(random, 4, 6)
    assert torch.allclose(functions.gate_activation(torch.cat((x, y), -1)), x * torch.sigmoid(x) * y)
    assert torch.allclose(functions.plain_activation(x), x * (1 + torch.erf(x / 2**0.5)) / 2, atol=1e-6)
    assert torch.equal(functions.add(x, y), x + y)
    assert functions.greedy(x).tolist() == [row.index(max(row)) for row in x.tolist()]
    assert functions.to_float(x.bfloat16()).dtype == torch.float32
    assert torch.equal(functions.embed(torch.tensor([3, 0]), x), x[[3, 0]])
    assert torch.allclose(functions.linear(x, y), x @ y.T, atol=1e-6)
    weights, experts = functions.choose_experts(x, 2)
    assert torch.allclose(weights, x.softmax(-1).gather(1, experts))
    assert experts.tolist() == x.argsort(-1, descending=True)[:, :2].tolist()


def test_fp8_activations_are_rounded_and_stay_within_its_range():
    x = torch.tensor([[1.0, -0.3, 1e6]])
    quantised = functions.quantise(x, torch.tensor(0.5))
    assert quantised.dtype == torch.float8_e4m3fn
    assert quantised.float().tolist() == [[2.0, -0.625, 448.0]]


def test_new_keys_and_values_go_to_their_slots(random):
    k_cache, v_cache = torch.zeros(3, BLOCK, 2, 4), torch.zeros(3, BLOCK, 2, 4)
    k, v = numbers(random, 2, 2, 4), numbers(random, 2, 2, 4)
    functions.write_kv(k, v, k_cache, v_cache, torch.tensor([BLOCK + 1, 0]))
    assert torch.equal(k_cache[1, 1], k[0])
    assert torch.equal(v_cache[0, 0], v[1])
    assert int((k_cache != 0).any(-1).any(-1).sum()) == 2


@pytest.mark.parametrize(("q_heads", "kv_heads"), [(4, 4), (6, 2)])
@pytest.mark.parametrize(
    ("query_lens", "kv_lens"),
    [([1, 1, 1], [1, 9, 24]), ([7], [7]), ([5], [21]), ([1], [BLOCK]), ([4, 1, 9], [4, 17, 20])],
    ids=["decodes", "prompt", "chunk after a history", "one decode", "all in one batch"],
)
def test_attention_over_blocks_is_attention(random, q_heads: int, kv_heads: int, query_lens, kv_lens):
    requests, blocks, head_dim, scale = len(kv_lens), 3, 16, 0.3
    k_cache, v_cache = numbers(random, 2, requests * blocks, BLOCK, kv_heads, head_dim).unbind()
    q = numbers(random, sum(query_lens), q_heads, head_dim)
    tables = torch.randperm(requests * blocks, generator=random).to(torch.int32).view(requests, blocks)
    right = naive_attention(q, k_cache, v_cache, tables, query_lens, kv_lens, scale)
    got = attend(q, k_cache, v_cache, tables, query_lens, kv_lens, scale)
    assert torch.allclose(got, right, atol=1e-5)
    if requests == 1:
        history = kv_lens[0] - query_lens[0]
        assert torch.allclose(attend_chunk(q, k_cache, v_cache, tables[0], history, scale), right, atol=1e-5)
    if max(query_lens) == 1:
        lens = torch.tensor(kv_lens, dtype=torch.int32)
        assert torch.allclose(attend_decodes(q, k_cache, v_cache, tables, lens, scale), right, atol=1e-5)


def test_on_a_cpu_requests_attend_one_after_the_other(cpu):
    assert choose_backend(cpu, 16) == "torch_sdpa_per_request"


def test_operations_are_compiled_where_tensors_are_on_cuda_only(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: compiled.append(dynamic) or (lambda x, y: "fused"))

    class OnCuda:
        is_cuda = True

    @fused_on_cuda
    def plus(x, y):
        return x + y

    assert plus(torch.ones(1), 2).item() == 3
    assert compiled == []
    assert [plus(OnCuda(), 2), plus(OnCuda(), 3)] == ["fused", "fused"]
    assert compiled == [True]
