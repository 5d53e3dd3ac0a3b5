"""Tables for tests, and a stand-in for the learned estimators whose times the tests can compute themselves."""

import numpy as np

from estimators.tables import IterationTables, TableLayout

SMALL = {"max_tokens": 2048, "max_sequences": 200, "max_kv": 300_000, "max_model_len": 8192}

FLOPS, MEMORY, LINK, LAUNCH = 800e12, 3e12, 4e11, 4e-6


class RooflineEstimators:
    """Every operator at its roofline. Counts its calls, so that tests see whether a cache was used."""

    def __init__(self, hash="roofline"):
        self.hash = hash
        self.profiled = {
            "gemm": {"m": [1, 8192]},
            "decode_attention": {"batch": [1, 512], "kv": [1, 131071]},
            "prefill_attention": {"chunk": [1, 16384], "history": [0, 65536]},
            "all_reduce": {"elements": [128, 2**29]},
        }
        self.calls = []
        self.rows = 0

    def predict(self, operator, columns):
        self.calls.append(operator)
        column = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
        seconds = LAUNCH + getattr(self, f"_{operator}")(**column)
        self.rows += seconds.size
        return seconds

    @staticmethod
    def _gemm(m, n, k):
        return np.maximum(2 * m * n * k / FLOPS, 2 * (m * k + n * k + m * n) / MEMORY)

    @staticmethod
    def _decode_attention(batch, kv, q_heads, kv_heads, head_dim):
        # A small batch does not fill the GPU.
        return batch * kv * kv_heads * head_dim * 4 / (MEMORY * np.minimum(1.0, 0.5 + batch / 64))

    @staticmethod
    def _prefill_attention(batch, chunk, history, q_heads, kv_heads, head_dim):
        compute = 4 * batch * q_heads * head_dim * chunk * (history + (chunk + 1) / 2) / FLOPS
        return np.maximum(compute, 4 * batch * kv_heads * head_dim * (history + chunk) / MEMORY)

    @staticmethod
    def _all_reduce(gpus, elements):
        return 2 * (gpus - 1) / gpus * elements * 2 / LINK


def build_small(estimators=None, model="Llama-3.1-8B", tp=1, **more):
    options = {**SMALL, "cache": False, "estimators": estimators or RooflineEstimators(), **more}
    return IterationTables.build(model, "h100_sxm", tp, **options)


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
