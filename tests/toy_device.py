"""A made-up CPU: its description, the time of every operator on it, and profiles of one model as if measured there."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from fake_device import SPEC

from estimators.device_file import write_device
from estimators.models import load_model
from estimators.operators import OperatorCall, iteration_calls
from estimators.profiles import ELEMENTWISE, Profiles, columns_of
from estimators.sources.own import own_path, write_profiles

FLOPS, MEMORY = 1e11, 1e10
CPU = replace(SPEC, name="cpu", peak_flops={"fp32": FLOPS}, memory_bandwidth=MEMORY, l2_bandwidth=5e10)
PROVENANCE = {"device": "a toy CPU", "driver": "none", "libraries": {}, "date": "2026-11-28", "repeats": 9}
CONFIG = {
    **{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 384, "num_hidden_layers": 6},
    **{"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 1024},
    **{"vocab_size": 8000, "max_position_embeddings": 4096, "hidden_act": "silu", "tie_word_embeddings": False},
}
_MOVED = {"norm": 4, "activation": 3}  # numbers for each of the width; 2 of others
_ROWS = np.unique(np.geomspace(1, 2048, 34).round()).astype(int)
_LENGTHS = np.unique(np.geomspace(1, 4096, 14).round()).astype(int)


def true_seconds(operator: str, column: dict[str, np.ndarray]) -> np.ndarray:
    """How long one call takes, by columns that can be broadcast."""
    if operator == "gemm":
        m, n, k = (column[name] for name in ("m", "n", "k"))
        return 4e-6 + 2 * m * n * k / FLOPS + 4 * (m * k + n * k + m * n) / MEMORY
    if operator in ELEMENTWISE:
        return 2e-6 + 4 * _MOVED.get(operator, 2) * column["tokens"] * column["width"] / MEMORY
    q_width, kv_width = (column[name] * column["head_dim"] for name in ("q_heads", "kv_heads"))
    if operator == "decode_attention":
        return column["batch"] * (8e-6 + 8 * (q_width + kv_width * column["kv"]) / MEMORY)
    chunk, history = column["chunk"], column["history"]
    pairs = chunk * history + chunk * (chunk + 1) / 2
    moved = 8 * (q_width * chunk + kv_width * (chunk + history))
    return column["batch"] * (8e-6 + 4 * q_width * pairs / FLOPS + moved / MEMORY)


def true_iteration_s(calls: Iterable[OperatorCall], decodes: int, kv: int, chunks: list[tuple[int, int]]) -> float:
    """How long an iteration takes."""
    total, tokens = 0.0, decodes + sum(chunk for _, chunk in chunks)
    for call in calls:
        one = call.measured() if call.measured_as else call
        rows = {"tokens": tokens, "sequences": decodes + len(chunks)}.get(one.axis, 0)
        if one.axis == "decode":
            sizes = [{"batch": decodes, "kv": kv / decodes}] if decodes else []
        elif one.axis == "prefill":
            sizes = [{"batch": 1, "history": history, "chunk": chunk} for history, chunk in chunks]
        else:
            sizes = [{"m" if one.operator == "gemm" else "tokens": rows}]
        total += one.count * sum(float(true_seconds(one.operator, {**one.shape, **size})) for size in sizes)
    return total


def toy_profiles(calls: Iterable[OperatorCall], noise: float = 0.02) -> list[Profiles]:
    """Every operator of some calls at a grid of sizes, measured with noise in fp32."""
    shapes: dict[str, list[dict[str, int]]] = {}
    for call in calls:
        one = call.measured() if call.measured_as else call
        shape = dict(one.shape)
        if shape not in shapes.setdefault(one.operator, []):
            shapes[one.operator].append(shape)
    return [_profiles(operator, each, noise) for operator, each in shapes.items()]


def _profiles(operator: str, shapes: list[dict[str, int]], noise: float) -> Profiles:
    sizes = {
        "gemm": {"m": _ROWS},
        "decode_attention": {"batch": 2 ** np.arange(7), "kv": _LENGTHS},
        "prefill_attention": {"batch": np.array([1]), "chunk": _LENGTHS[:-1], "history": np.append(0, _LENGTHS)},
    }.get(operator, {"tokens": _ROWS})
    grid = {name: values.ravel() for name, values in zip(sizes, np.meshgrid(*sizes.values()), strict=True)}
    parts = []
    for shape in shapes:
        columns = grid | {name: np.full_like(next(iter(grid.values())), value) for name, value in shape.items()}
        parts.append(pl.DataFrame({name: columns[name] for name in columns_of(operator)}))
    frame = pl.concat(parts)
    seconds = true_seconds(operator, {name: frame[name].to_numpy().astype(float) for name in frame.columns})
    drawn = np.random.default_rng(len(operator)).normal(0, noise, frame.height)
    frame = frame.with_columns(seconds=seconds * np.exp(drawn), spread=pl.lit(noise))
    kernel = f"toy_{operator}" + "_per_request" * operator.endswith("_attention")
    return Profiles("cpu", operator, "fp32", frame, "", "toy engine 1", "none", (kernel,), 0, 0, 0, 0)


def write_toy(directory: Path) -> Path:
    """A directory with the toy's device.json and its profiles of the model that is in it, too; nothing trained."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(CONFIG))
    for one in toy_profiles(iteration_calls(load_model(directory), dtype="fp32")):
        write_profiles(own_path(directory, one.operator, "fp32"), one, PROVENANCE)
    write_device(directory, CPU, PROVENANCE)
    return directory
