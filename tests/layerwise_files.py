"""Small directories of layerwise measurements, of times that can be told without a computer."""

import gzip
import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

TOKENS = (1, 2, 4, 16, 64, 128)
SEQUENCES = (1, 2, 4, 8)
DENSE = {
    "embedding": 1,
    "layernorm": 2,
    "qkv_proj": 3,
    "rotary_emb": 5,
    "o_proj": 7,
    "gate_up_proj": 11,
    "act_fn": 13,
    "down_proj": 17,
    "final_layernorm": 19,
}
CHUNKS, HISTORIES, DECODES, CONTEXTS = (16, 32, 64, 128), (0, 16, 64, 256), (1, 2, 4, 8), (16, 64, 256)

#: Bins of the skew fit, in the manner of the profiler.
BUCKET_AXES = {
    "n_bins": [0, 2, 4, 1000],
    "n_labels": ["n<=2", "n<=4", "n>4"],
    "skew_rate_bins": [-0.01, 0.5, 1.01],
    "skew_rate_labels": ["low", "high"],
    "kv_big_bins": [0, 64, 1000000],
    "kv_big_labels": ["kvB<=64", "kvB>64"],
    "kp_bins": [-1, 0, 1000000],
    "kp_labels": ["kp=0", "kp>0"],
}


def attention_us(chunk: int, history: int, decodes: int, context: int) -> float:
    """Affine along every axis, and more than the sum of its parts for both together."""
    of_chunk = 10 + chunk * (1 + history / 100) if chunk else 0
    of_decodes = 20 + decodes * context / 10 if decodes else 0
    return of_chunk + (2 if chunk else 1) * of_decodes


def attention_rows() -> list[tuple[int, int, int, int]]:
    """The grid of all three kinds of batches."""
    chunks = list(itertools.product(CHUNKS, HISTORIES))
    decodes = list(itertools.product(DECODES, CONTEXTS))
    rows = [(0, 0, *d) for d in decodes] + [(*c, 0, 0) for c in chunks]
    return rows + [(*c, *d) for c in chunks for d in decodes]


def write_rows(path: Path, header: str, rows: Iterable[Iterable[Any]], gzipped: bool = False) -> None:
    """Write a table of CSV."""
    text = "\n".join([header, *(",".join(str(cell) for cell in row) for row in rows)]) + "\n"
    if gzipped:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)


def write_profile(
    root: Path,
    *,
    tp: int = 1,
    skew: bool | None = None,
    shares: Iterable[tuple[Any, ...]] = (),
    attention: Callable[[int, int, int, int], float] = attention_us,
    gzipped: bool = False,
) -> Path:
    """Write a profile: a layer of weight w takes w + tokens us, those by requests 100 + requests us.

    Args:
        root: where to; made if it is missing.
        tp: degree of tensor parallelism.
        skew: what skew_fit.enabled says; None says nothing of skew at all.
        shares: rows of skew_fit.csv.
        attention: us by chunk, history, decodes and context.
        gzipped: whether to write .csv.gz.
    """
    folder = root / f"tp{tp}"
    folder.mkdir(parents=True)
    meta: dict[str, Any] = {"hardware": "TOY", "model": "toy", "vllm_version": "0.19.0"}
    if skew is not None:
        meta["skew_fit"] = {"enabled": skew, "bucket_axes": BUCKET_AXES, "per_tp": {tp: {"alpha_default": 0.25}}}
        header = "pc,n_label,skew_rate_label,kv_big_label,kp_label,alpha,n_samples"
        write_rows(folder / "skew_fit.csv", header, ((*row, 3) for row in shares), gzipped)
    (root / "meta.yaml").write_text(yaml.safe_dump(meta))
    dense = [(name, t, weight + t) for name, weight in DENSE.items() for t in TOKENS]
    write_rows(folder / "dense.csv", "layer,tokens,time_us", dense, gzipped)
    per_sequence = [(name, s, 100 + s) for name in ("lm_head", "sampler") for s in SEQUENCES]
    write_rows(folder / "per_sequence.csv", "layer,sequences,time_us", per_sequence, gzipped)
    rows = [(*key, attention(*key)) for key in attention_rows()]
    write_rows(folder / "attention.csv", "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us", rows, gzipped)
    return root


#: The config.json of a mixture of 128 experts, 8 for each token.
EXPERTS_CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "vocab_size": 151936,
    "max_position_embeddings": 262144,
}


def write_config(folder: Path, **change: Any) -> Path:
    """Write that configuration, with changes."""
    path = folder / "config.json"
    path.write_text(json.dumps(EXPERTS_CONFIG | change))
    return path


def experts_profile(root: Path, tp: int = 1) -> Path:
    """A profile with 1000 us for the norm of queries and keys, and 7 us for each activated expert."""
    folder = write_profile(root, tp=tp) / f"tp{tp}"
    dense = folder / "dense.csv"
    dense.write_text(dense.read_text() + "qk_norm,1,1000\nqk_norm,128,1000\n")
    rows = [(tokens, experts, 7 * experts) for tokens in (1, 128) for experts in (8, 128)]
    write_rows(folder / "moe.csv", "tokens,activated_experts,time_us", rows)
    return root
