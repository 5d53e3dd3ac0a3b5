"""What reads models, devices, estimators and measurements, each with files to change."""

import functools
import io
import json
import lzma
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import yaml
from layerwise_files import EXPERTS_CONFIG, experts_profile, write_profile
from run_files import TOY
from toy_device import CONFIG, CPU, PROVENANCE, toy_profiles

from estimators import IterationTables, TableLayout, load_model
from estimators.cache import load_tables, save_tables
from estimators.device_file import read_device, write_device
from estimators.estimator import ZOO, OperatorEstimators
from estimators.host_times import HOST_COLUMNS, read_host_times, write_host_times
from estimators.onnx import Model, export
from estimators.operators import iteration_calls
from estimators.profiler.record import Record
from estimators.profiles import VIDUR_ELEMENTWISE
from estimators.regressors import KINDS, fit
from estimators.sources.layerwise import read_experts, read_layerwise
from estimators.sources.own import read_own, write_profiles
from estimators.sources.vidur import read_cpu_overheads, read_vidur
from estimators.vidur_tables import CPU_OPERATORS, TOKEN_OPERATORS, OperatorTables
from fuzz.file_targets import file_of, put, target
from fuzz.mutation import mutated_bytes, mutated_json, mutated_parquet, mutated_text, mutated_tree, packed

# Models and devices


@target
def model_config(rng: random.Random, place: Path) -> object:
    config = rng.choice((TOY, CONFIG, EXPERTS_CONFIG))
    content = mutated_json(rng, json.dumps(config).encode())
    spec = load_model(put(place, "config.json", content))
    return iteration_calls(spec)


@target
def quantised_model(rng: random.Random, place: Path) -> object:
    number = {"num_bits": 8, "type": "float"}
    quantised = {
        "quant_method": "compressed-tensors",
        "config_groups": {"g": {"targets": ["Linear"], "weights": number, "input_activations": number}},
    }
    told = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    put(place, "config.json", json.dumps(mutated_tree(rng, TOY | {"quantization_config": quantised})).encode())
    put(place, "hf_quant_config.json", mutated_json(rng, json.dumps(told).encode()))
    return load_model(place / "config.json")


@target
def device_description(rng: random.Random, place: Path) -> object:
    written = file_of(lambda folder: write_device(folder, CPU, PROVENANCE), "device.json")
    put(place, "device.json", mutated_json(rng, written))
    return read_device(place)


@target
def onnx_bytes(rng: random.Random, place: Path) -> object:
    content = _models()[rng.choice(list(_models()))]
    if rng.random() < 0.2:
        return _predicted(compressed_fast(content))
    if rng.random() < 0.5:
        return _predicted(mutated_bytes(rng, compressed_fast(content)))
    return _predicted(compressed_fast(mutated_bytes(rng, content)))


@target
def onnx_graph(rng: random.Random, place: Path) -> object:
    model = onnx.load_from_string(_models()[rng.choice(list(_models()))])
    for _ in range(rng.choice((1, 1, 2))):
        node = rng.choice(model.graph.node)
        kind = rng.random()
        if kind < 0.7 and node.attribute:
            entry = rng.choice(node.attribute)
            if numbers := entry.ints or entry.floats:
                numbers[rng.randrange(len(numbers))] = rng.choice((-1, 0, 1, 2, 3, 5, 10**6, 2**31 - 1))
                if rng.random() < 0.3:
                    numbers.pop()
            else:
                entry.i = rng.choice((-1, 0, 1, 2, 2**31))
        elif kind < 0.8:
            node.op_type = rng.choice(("Loop", "Expand", "Concat", "Mul", "Reshape", "Identity"))
        elif kind < 0.9 and node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(("features", "", "x", "variable"))
        else:
            model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = rng.choice((-1, 0, 1, 2, 4, 10**9))
    return _predicted(compressed_fast(model.SerializeToString()))


def _predicted(content: bytes) -> object:
    model = Model(content, Path("a.onnx.xz"))
    return model.predict(np.ones((3, model.features), np.float32))


@functools.cache
def _models() -> dict[str, bytes]:
    generator = np.random.default_rng(0)
    features, target_ = generator.random((40, 3)).astype(np.float32), generator.random(40)
    return {kind: export(fit(kind, features, target_, 0), 3, {"a": [1, 2.5]}) for kind in KINDS}


@target
def estimator_of_a_zoo(rng: random.Random, place: Path) -> object:
    model = onnx.load_from_string(lzma.decompress((ZOO / "h100_sxm-bf16" / "all_gather.onnx.xz").read_bytes()))
    entry = rng.choice(model.metadata_props)
    entry.value = mutated_json(rng, entry.value.encode()).decode("utf-8", "replace")
    put(place, "gpu-bf16/all_gather.onnx.xz", compressed_fast(model.SerializeToString()))
    loaded = OperatorEstimators.load("gpu", "bf16", place)
    columns = {"gpus": [2, 4], "elements": [100, 10**6]}
    return (
        loaded.predict("all_gather", columns),
        loaded.predict("all_gather", columns, 1),
        loaded.metadata["all_gather"],
    )


def compressed_fast(model: bytes) -> bytes:
    return lzma.compress(model, preset=0)


# Measurements


@functools.cache
def _own() -> list[bytes]:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "config.json"
        path.write_text(json.dumps(CONFIG))
        calls = iteration_calls(load_model(path), dtype="fp32")
        found = []
        for profiles in toy_profiles(calls):
            write_profiles(path, profiles, PROVENANCE)
            found.append(path.read_bytes())
        return found


@target
def own_profiles(rng: random.Random, place: Path) -> object:
    return read_own(put(place, "a.parquet", mutated_parquet(rng, rng.choice(_own()))))


@target
def host_times(rng: random.Random, place: Path) -> object:
    columns = {"batch": [1, 2, 4]} | {name: [1e-3, 2e-3, None] for name in HOST_COLUMNS[1:]}

    def written(folder: Path) -> None:
        write_host_times(folder / "host.parquet", pl.DataFrame(columns), "toy", "toy 1", PROVENANCE)

    return read_host_times(put(place, "host.parquet", mutated_parquet(rng, file_of(written, "host.parquet"))))


@target
def vidur_csv(rng: random.Random, place: Path) -> object:
    mlp = "time_stats.{}.median"
    names = ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj", "mlp_act", "attn_rope", "emb", "add")
    head = [
        "n_head",
        "n_kv_head",
        "n_embd",
        "n_expanded_embd",
        "use_gated_mlp",
        "num_tokens",
        "num_tensor_parallel_workers",
    ]
    rows = [[8, 2, 1024, 4096, True, tokens, 1, *range(1, 9)] for tokens in (1, 4, 16)]
    text = _csv([*head, *(mlp.format(name) for name in names)], rows)
    put(place, "compute/a100/o/m/mlp.csv.gz", packed(rng, mutated_text, text))
    head = ["num_workers", "devices_per_node", "size", mlp.format("all_reduce")]
    put(place, "network/n/all_reduce.csv", mutated_text(rng, _csv(head, [[2, 2, 1024, 0.1], [4, 4, 2048, 0.2]])))
    if rng.random() < 0.3:
        return read_vidur(place, "all_reduce", "n")
    return read_vidur(
        place, rng.choice(("gemm", "gemm", "add", *VIDUR_ELEMENTWISE)), "a100", skip_bad=rng.random() < 0.3
    )


@target
def vidur_attention_csv(rng: random.Random, place: Path) -> object:
    head = ["n_embd", "n_q_head", "n_kv_head", "num_tensor_parallel_workers", "block_size", "batch_size"]
    head += [
        "prefill_chunk_size",
        "kv_cache_size",
        *(f"time_stats.{n}.median" for n in ("attn_prefill", "attn_decode")),
    ]
    head += ["time_stats.attn_kv_cache_save.median", "attention_backend"]
    rows = [
        [1024, 8, 2, 2, 16, 1, chunk, 64, 5 if chunk else "", "" if chunk else 3, 0.1, "B.F"] for chunk in (0, 32, 64)
    ]
    put(place, "compute/a100/o/m/attention.csv", packed(rng, mutated_text, _csv(head, rows)))
    return read_vidur(place, rng.choice(("prefill_attention", "decode_attention")), "a100")


@target
def vidur_cpu_csv(rng: random.Random, place: Path) -> object:
    names = ("schedule_median", "prepare_inputs_e2e_median", "ray_comm_time_mean", "sampler_e2e_median")
    head = ["model_name", "batch_size", "tensor_parallel_degree", *names, "process_model_outputs_median"]
    rows = [["o/m", batch, 1, 0.1, 0.2, 0.3, 0.4, 0.5] for batch in (1, 2)]
    put(place, "cpu_overhead/n/o/m/cpu_overheads.csv", packed(rng, mutated_text, _csv(head, rows)))
    return read_cpu_overheads(place, "n")


def _csv(head: list[str], rows: list[list[Any]]) -> bytes:
    return "\n".join(",".join(map(str, row)) for row in (head, *rows)).encode() + b"\n"


@functools.cache
def _layerwise() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as place:
        write_profile(Path(place) / "skew", skew=True, shares=[(0, "n<=2", "low", "kvB<=64", "kp=0", 0.5)])
        experts_profile(Path(place) / "experts")
        found = {}
        for path in (*(Path(place) / "skew").rglob("*"), *(Path(place) / "experts").rglob("moe.csv")):
            if path.is_file():
                found[path.relative_to(place).as_posix().partition("/")[2]] = path.read_bytes()
        return found


@target
def layerwise_profile(rng: random.Random, place: Path) -> object:
    files = _layerwise()
    changed = rng.choice(list(files))
    for name, content in files.items():
        if name == changed and name.endswith(".yaml"):
            tree = mutated_tree(rng, yaml.safe_load(content))
            content = yaml.safe_dump(tree).encode() if rng.random() < 0.7 else mutated_text(rng, content)
        elif name == changed:
            content = mutated_text(rng, content)
        put(place, name, content)
    return read_layerwise(place), read_experts(place, 1)


@target
def operator_tables(rng: random.Random, place: Path) -> object:
    tokens = np.array([[1], [2], [8]])
    arrays: dict[str, Any] = {}
    for name in (*TOKEN_OPERATORS, *CPU_OPERATORS):
        arrays |= {f"{name}__keys": tokens, f"{name}__ms": np.array([0.1, 0.2, 0.8])}
    arrays["attn_decode__keys"], arrays["attn_decode__ms"] = np.array([[1, 0], [1, 64], [3, 128]]), np.ones(3)
    arrays["attn_prefill__keys"], arrays["attn_prefill__ms"] = np.array([[0, 1], [64, 25]]), np.ones(2)
    for _ in range(rng.choice((0, 1, 1, 2))):
        name = rng.choice(list(arrays))
        array = arrays[name]
        changes: list[Callable[[], Any]] = [
            lambda array=array: array.astype(rng.choice(("f4", "i2", "u8", "U5", "?", "c16"))),
            lambda array=array: array[:1],
            lambda array=array: array[..., None],
            lambda array=array: array.ravel(),
            lambda array=array: array * rng.choice((-1, 0, 10**9, 10**15)),
            lambda array=array: np.where(array == array.flat[0], np.nan, array),
        ]
        arrays[name] = rng.choice(changes)()
        if rng.random() < 0.2:
            del arrays[name]
    file = io.BytesIO()
    np.savez(file, **arrays)
    content = file.getvalue() if rng.random() < 0.6 else mutated_bytes(rng, file.getvalue())
    return OperatorTables.read_npz(put(place, "a.npz", content), cpu_overhead=rng.random() < 0.5).hash


@target
def iteration_tables(rng: random.Random, place: Path) -> object:
    def written(folder: Path) -> None:
        layout = TableLayout(4, 2, 16, 8, 4, 1, 1, 1)
        save_tables(IterationTables(np.linspace(0, 1, layout.size), layout, "sum", {"a": 1}), folder / "t")

    name = rng.choice(("t.npy", "t.json"))
    for one, mutate in (("t.npy", mutated_bytes), ("t.json", mutated_json)):
        content = file_of(written, one)
        put(place, one, mutate(rng, content) if one == name else content)
    return load_tables(place / "t")


@target
def record_of_a_profile(rng: random.Random, place: Path) -> object:
    header = {"model": "m", "dtype": "bf16"}
    points = [
        {"operator": "gemm", "dtype": "bf16", "values": [1, 2, 3], "seconds": 1e-3, "spread": 0.1, "repeats": 3}
        | {"kernel": "k", "yardstick_s": 1e-3},
        {"operator": "gemm", "dtype": "bf16", "values": [1, 2, 4], "refused": "too large"},
        {"spent_s": 1.5},
    ]
    head = {"fastsim": "profile", "schema": 1, **header, "about": {}}
    lines = b"".join(json.dumps(line).encode() + b"\n" for line in (head, *points))
    record = Record(put(place, "points.jsonl", mutated_text(rng, lines)), header, {})
    return record.times, record.speed_range
