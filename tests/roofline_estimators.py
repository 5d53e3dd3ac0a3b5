"""Tables for tests, and a stand-in for the learned estimators whose times the tests can compute themselves."""

import numpy as np

from estimators.tables import IterationTables, TableLayout

SMALL = {"max_tokens": 2048, "max_sequences": 200, "max_kv": 300_000, "max_model_len": 8192}

FLOPS, MEMORY, LINK, LAUNCH = 800e12, 3e12, 4e11, 4e-6


class RooflineEstimators:
    """Every operator at its roofline. Counts its calls, so that tests see whether a cache was used."""

    def __init__(self, hash="roofline"):
        self.hash = hash
        attention = {"batch": [1, 512], "kv": [1, 131071]}
        self.profiled = {
            "gemm": {"m": [1, 8192]},
            "decode_attention": {**attention},
            "prefill_attention": {"chunk": [1, 16384], "history": [0, 65536]},
            "latent_decode": {**attention},
            "latent_prefill": {"chunk": [1, 16384], "history": [0, 65536]},
            "latent_bmm": {"tokens": [1, 512]},
            "moe": {"tokens": [1, 65536]},
            "all_reduce": {"elements": [128, 2**29]},
            "all_gather": {"elements": [128, 2**29]},
            "reduce_scatter": {"elements": [128, 2**29]},
            "all_to_all": {"elements": [128, 2**29]},
        }
        self.calls = []
        self.rows = 0

    def predict(self, operator, columns, member=0):
        self.calls.append(operator)
        column = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
        seconds = (LAUNCH + getattr(self, f"_{operator}")(**column)) * (1 + member / 100)
        self.rows += seconds.size
        return seconds

    @staticmethod
    def _gemm(m, n, k):
        return np.maximum(2 * m * n * k / FLOPS, 2 * (m * k + n * k + m * n) / MEMORY)

    @staticmethod
    def _decode_attention(batch, kv, q_heads, kv_heads, head_dim, window):
        kv = np.where(window > 0, np.minimum(kv, window), kv)
        # A small batch does not fill the GPU.
        return batch * kv * kv_heads * head_dim * 4 / (MEMORY * np.minimum(1.0, 0.5 + batch / 64))

    @staticmethod
    def _prefill_attention(batch, chunk, history, q_heads, kv_heads, head_dim, window):
        assert (history <= np.where(window > 0, window, np.inf)).all()
        keys = np.where(window > 0, np.minimum(window, history + (chunk + 1) / 2), history + (chunk + 1) / 2)
        compute = 4 * batch * q_heads * head_dim * chunk * keys / FLOPS
        return np.maximum(compute, 4 * batch * kv_heads * head_dim * (history + chunk) / MEMORY)

    @staticmethod
    def _latent_decode(batch, kv, heads):
        return batch * kv * 576 * 2 / MEMORY + 0 * heads

    @staticmethod
    def _latent_prefill(batch, chunk, history, heads):
        return 2 * batch * heads * 320 * chunk * (history + (chunk + 1) / 2) / FLOPS

    @staticmethod
    def _latent_bmm(tokens, heads, n, k):
        return np.maximum(2 * tokens * heads * n * k / FLOPS, 2 * heads * n * k / MEMORY)

    @staticmethod
    def _moe(tokens, hidden, inter, topk, experts, local_experts, load):
        chosen = local_experts * (1 - (1 - topk / experts) ** tokens)
        rows = tokens * topk * local_experts / experts * (1 + load / 1000)
        return 6 * hidden * inter * np.maximum(rows / FLOPS, chosen / MEMORY)

    @staticmethod
    def _all_reduce(gpus, elements):
        return 2 * (gpus - 1) / gpus * elements * 2 / LINK

    @staticmethod
    def _all_gather(gpus, elements):
        return (gpus - 1) / gpus * elements * 2 / LINK

    _reduce_scatter = _all_to_all = _all_gather


def build_small(estimators=None, model="Llama-3.1-8B", tp=1, device="h100_sxm", **more):
    options = {**SMALL, "cache": False, "estimators": estimators or RooflineEstimators(), **more}
    return IterationTables.build(model, device, tp, **options)


def random_arrays(max_tokens=4, max_sequences=2, max_kv=40, max_history=70, max_chunk=130, seed=0):
    """Arguments of from_arrays with random values."""
    layout = TableLayout(max_tokens, max_sequences, max_kv, max_history, max_chunk)
    values = np.random.default_rng(seed)
    return {
        "token_s": values.random(max_tokens + 1),
        "sequence_s": values.random(max_sequences + 1),
        "decode_s": values.random((max_sequences + 1, layout.kv_points)),
        "prefill_s": values.random((layout.history_points, layout.chunk_points)),
        "max_kv": max_kv,
        "max_history": max_history,
        "max_chunk": max_chunk,
    }
