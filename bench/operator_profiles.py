"""Profiles that bench/operator_errors.py trains on, in one list, and learning curves over them."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from common import Row

from estimators.devices import MIB, DeviceSpec, load_device
from estimators.held_out import shape_folds
from estimators.learning import learning_curve
from estimators.models import load_model
from estimators.profiles import Profiles, merge_points
from estimators.sources.aiconfigurator import read_profiles
from estimators.sources.layerwise_profiles import layerwise_profiles
from estimators.sources.vidur import read_vidur
from estimators.train import training_set
from estimators.training import TrainingSet

SHARES = (0.1, 0.03, 0.01, 0.003)
LEAST = 30  # rows that are worth training on
FEW = 20  # shapes that say nothing of others
_HEADS = ("q_heads", "kv_heads", "head_dim", "window")
SHAPES = {
    **{"gemm": ("n", "k"), "prefill_attention": _HEADS, "decode_attention": _HEADS},
    "moe": ("hidden", "inter", "topk", "experts", "local_experts"),
}


def _card(name: str, tflops: float, memory_gb: int, bandwidth: float, l2_mib: int, sms: int) -> DeviceSpec:
    """A GPU that profiles are of, but the package has no entry for; what no roofline needs is 0."""
    rates = {"bf16": 1e12 * tflops}
    links = {"nvlink_bandwidth": 56e9, "gpus_per_node": 8, "inter_node_bandwidth": 0.0, "pcie_bandwidth": 32e9}
    beside = {"l2_bandwidth": 0.0, "power_watts": 0.0, "price_per_hour": 0.0}
    return DeviceSpec(name, memory_gb << 30, rates, bandwidth, l2_mib * MIB, num_sms=sms, **links, **beside)


#: By the name of their folder. Of those made here: NVIDIA's data sheets, dense rates with float32 sums.
DEVICES = {
    "a100": load_device("a100_sxm"),
    "h100": load_device("h100_sxm"),
    "a40": _card("a40", 149.7, 48, 696e9, 6, 84),
    "RTX4090": _card("rtx_4090", 165.2, 24, 1008e9, 72, 128),
    "RTXPRO6000": _card("rtx_pro_6000", 503.8, 96, 1597e9, 128, 188),
}


@dataclass(frozen=True)
class Source:
    """Rows of one operator on one GPU.

    Attributes:
        name: ``"vidur"``, ``"layerwise"`` or ``"aiconfigurator"``.
        device: what was measured.
        engine: whose kernels.
        rows: ready to learn from.
    """

    name: str
    device: str
    engine: str
    rows: TrainingSet


def profiled(profiles: Path) -> Iterator[Source]:
    """Every operator that ``profiles`` holds, Vidur's first."""
    yield from _vidur(profiles / "vidur")
    yield from _layerwise(profiles / "llmservingsim")


def _vidur(root: Path) -> Iterator[Source]:
    for gpu in ("a100", "h100", "a40"):
        if (root / "compute" / gpu).is_dir():
            yield _source("vidur", gpu, read_vidur(root, "gemm", gpu))
    old = root / "history" / "a100_attention_old.csv.gz"
    if old.is_file():
        # Taken out of Vidur's tree since: put back to where it was.
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "compute" / "a100" / "meta-llama" / "Llama-2-70b-hf"
            place.mkdir(parents=True)
            shutil.copy(old, place / "attention.csv.gz")
            for operator in ("prefill_attention", "decode_attention"):
                yield _source("vidur", "a100", read_vidur(folder, operator, "a100"))
    for gpu in ("a100", "h100"):
        if (root / "network" / f"{gpu}_dgx").is_dir():
            yield _source("vidur", gpu, read_vidur(root, "all_reduce", f"{gpu}_dgx"))


def _layerwise(root: Path) -> Iterator[Source]:
    """Of each GPU and model, all degrees of tensor parallelism together."""
    for meta in sorted(root.rglob("meta.yaml")):
        gpu, model = meta.relative_to(root).parts[0], "/".join(meta.parent.parts[-2:])
        found = [
            layerwise_profiles(meta.parent, int(folder.name[2:]), load_model(model))
            for folder in sorted(meta.parent.glob("tp[0-9]*"))
        ]
        for same in zip(*found, strict=True) if gpu in DEVICES else ():
            rows = merge_points(same[0].operator, pl.concat([each.frame for each in same]))
            yield _source("layerwise", gpu, replace(same[0], frame=rows))


def aiconfigurator() -> Iterator[Source]:
    """What the zoo's estimators of the H100 were trained on, of operators with many shapes."""
    for operator in SHAPES:
        yield _source("aiconfigurator", "h100", read_profiles("h100_sxm", operator))


def _source(name: str, gpu: str, profiles: Profiles) -> Source:
    device = DEVICES[gpu]
    return Source(name, device.name, profiles.engine, training_set(profiles, device))


def learning_rows(sources: Iterable[Source], steps: int) -> Iterator[Row]:
    """Mean errors on a fifth of the shapes after training on few points of the others; of few shapes nothing is learnt.

    Args:
        sources: what to learn.
        steps: how many of ``SHARES``.
    """
    for source in sources:
        rows = source.rows
        shapes = np.stack([rows.columns[name] for name in SHAPES.get(rows.operator, ("elements",))], axis=1)
        if len(np.unique(shapes, axis=0)) < FEW:
            continue
        known = int((shape_folds(rows, 0) > 0).sum())
        points = [count for share in SHARES[:steps] if (count := round(share * known)) >= LEAST]
        curve = learning_curve(rows, points, 0)
        for count, random, chosen in zip(points, curve.random, curve.chosen, strict=True):
            who = {"source": source.name, "device": source.device, "operator": rows.operator, "known": known}
            yield {**who, "trained": count, "random": random, "chosen": chosen}
