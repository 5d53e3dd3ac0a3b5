"""Kernel times measured layer by layer inside vLLM by the LLMServingSim project (MIT).

A directory holds ``meta.yaml`` and for every degree of tensor parallelism ``tpN/`` with CSV files, gzipped or not:

* ``dense.csv``: layer, tokens, time_us; ``per_sequence.csv``: layer, sequences, time_us;
* ``attention.csv``: prefill_chunk, kv_prefill, n_decode, kv_decode, time_us: one layer's attention of a batch of one
  chunk of a prompt over a history and of decodes that all read kv_decode tokens; 0 means none;
* ``moe.csv``, in models with experts: tokens, activated_experts, time_us;
* ``skew_fit.csv``: how much decodes of unequal length cost, by buckets that ``meta.yaml`` describes.

Times are microseconds of GPU kernels, mean of several runs; a shard of a tensor-parallel layer was measured alone, so
nothing of communication is in them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from estimators.bounded import read_bounded
from estimators.errors import EstimatorError
from estimators.layout import FloatArray, IntArray
from estimators.sources.rows import find_csv, numbers, read_text, refuse_rows, require_columns
from estimators.tables_of_files import MAX_YAML_BYTES, yaml_table

if TYPE_CHECKING:
    import polars

#: Columns of each file that are keys, beside ``layer``; the last column is the time.
_KEYS = {
    "dense": ("tokens",),
    "per_sequence": ("sequences",),
    "attention": ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode"),
    "moe": ("tokens", "activated_experts"),
}
_SKEW_AXES = ("n", "skew_rate", "kv_big", "kp")


@dataclass(frozen=True)
class SkewFit:
    """The fitted shares of ``skew_fit.csv``: t = t(mean) + alpha * (t(longest) - t(mean)).

    Attributes:
        chunks: the measured chunks, sorted; 0 is a batch of decodes alone.
        edges: upper edges of the bins of decodes, rates, longest contexts and histories; the last bin has none.
        alpha: shape (chunks, bins of each of the four), NaN replaced by the fit over all buckets.
    """

    chunks: IntArray
    edges: tuple[FloatArray, ...]
    alpha: FloatArray


@dataclass(frozen=True)
class LayerwiseProfile:
    """The measured times of one model on one device at one degree of tensor parallelism, seconds.

    Attributes:
        meta: what ``meta.yaml`` says.
        dense: by layer: numbers of tokens, sorted, and seconds, of one such layer.
        per_sequence: by layer: numbers of requests, sorted, and seconds.
        attention: keys, shape (rows, 4): chunk, history, decodes, context; and seconds of one layer.
        skew: the cost of unequal decodes; None where ``meta.yaml`` does not enable it.
    """

    meta: Mapping[str, Any]
    dense: Mapping[str, tuple[IntArray, FloatArray]]
    per_sequence: Mapping[str, tuple[IntArray, FloatArray]]
    attention: tuple[IntArray, FloatArray]
    skew: SkewFit | None


def read_layerwise(directory: str | os.PathLike[str], tp: int = 1) -> LayerwiseProfile:
    """Read the measurements of one degree of tensor parallelism.

    Args:
        directory: where ``meta.yaml`` is.
        tp: which of ``tpN/``.

    Raises:
        EstimatorError: naming the file, and the row where one is wrong.
    """
    root = Path(directory)
    meta = read_meta(root)
    folder = tp_folder(root, tp)
    try:
        skew = _read_skew(folder, meta, tp)
    except EstimatorError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        wrong = f"of {root} does not say it as the profiler does ({error})"
        raise EstimatorError("meta.yaml: skew_fit", None, wrong, "give a profile's directory") from error
    return LayerwiseProfile(
        meta=meta,
        dense=_by_layer(folder, "dense"),
        per_sequence=_by_layer(folder, "per_sequence"),
        attention=_keys_and_seconds(*read_rows(folder, "attention")),
        skew=skew,
    )


def read_experts(directory: str | os.PathLike[str], tp: int) -> tuple[IntArray, FloatArray] | None:
    """The experts of one layer at one degree of tensor parallelism; None where they were not measured.

    Returns:
        Keys, shape (rows, 2): tokens and activated experts; and seconds.

    Raises:
        EstimatorError: naming the file, and the row where one is wrong.
    """
    folder = Path(directory) / f"tp{tp}"
    return None if find_csv(folder, "moe") is None else _keys_and_seconds(*read_rows(folder, "moe"))


def tp_folder(root: Path, tp: int) -> Path:
    """Where the measurements of a degree of tensor parallelism are.

    Raises:
        EstimatorError: when there are none.
    """
    folder = root / f"tp{tp}"
    if not folder.is_dir():
        found = ", ".join(sorted(entry.name for entry in root.glob("tp*") if entry.is_dir())) or "none"
        raise EstimatorError("tp", tp, f"was not measured in {root}", f"choose one of those there: {found}")
    return folder


def read_meta(root: Path) -> Mapping[str, Any]:
    """What ``meta.yaml`` says.

    Raises:
        EstimatorError: when it cannot be read.
    """
    try:
        meta = yaml_table(read_bounded(root / "meta.yaml", MAX_YAML_BYTES))
    except (OSError, ValueError) as error:
        raise EstimatorError(
            "meta.yaml", None, f"of {root} cannot be read ({error})", "give a profile's directory"
        ) from error
    if not isinstance(meta, dict):
        raise EstimatorError("meta.yaml", None, f"of {root} is no mapping", "give a profile's directory")
    return meta


def read_rows(folder: Path, name: str) -> tuple[Path, polars.DataFrame]:
    """The columns of a file that are used, checked: keys int64, a layer's name, and ``seconds``."""
    keys = _KEYS[name]
    path, frame = _read_text(folder, name, (*(("layer",) if len(keys) == 1 else ()), *keys, "time_us"))
    columns = [numbers(str(path), frame, key, 0) for key in keys]
    seconds = numbers(str(path), frame, "time_us", None) / 1e6
    return path, frame.with_columns(*columns, seconds.alias("seconds")).drop("time_us")


def _read_text(folder: Path, name: str, columns: Sequence[str]) -> tuple[Path, polars.DataFrame]:
    """Some columns of a file, as text; none of their cells is empty."""
    path = find_csv(folder, name)
    if path is None:
        raise EstimatorError(f"{name}.csv", None, f"is not in {folder}", "give a profile that holds it")
    frame = read_text(path)
    require_columns(str(path), frame, columns)
    for column in columns:
        refuse_rows(str(path), frame, column, frame[column].is_null(), "is empty")
    return path, frame.select(columns)


def _by_layer(folder: Path, name: str) -> dict[str, tuple[IntArray, FloatArray]]:
    _, frame = read_rows(folder, name)
    key = _KEYS[name][0]
    means = frame.group_by("layer", key).mean().sort("layer", key)
    return {
        str(layer): (part[key].to_numpy().astype(np.int64), part["seconds"].to_numpy())
        for (layer,), part in means.partition_by("layer", as_dict=True).items()
    }


def _keys_and_seconds(path: Path, frame: polars.DataFrame) -> tuple[IntArray, FloatArray]:
    keys = [column for column in frame.columns if column != "seconds"]
    means = frame.group_by(keys).mean().sort(keys)
    return means.select(keys).to_numpy().astype(np.int64), means["seconds"].to_numpy()


def _read_skew(folder: Path, meta: Mapping[str, Any], tp: int) -> SkewFit | None:
    """The fit of one degree of tensor parallelism, if ``meta.yaml`` says that it is to be used."""
    fit = meta.get("skew_fit") or {}
    if not fit.get("enabled", False):
        return None
    one = (fit.get("per_tp") or {}).get(tp)
    if not one:
        return None  # It is enabled, but no skew was measured at this degree.
    axes = one.get("bucket_axes") or fit.get("bucket_axes") or {}
    labels, edges = [], []
    for axis in _SKEW_AXES:
        names, bins = axes.get(f"{axis}_labels"), axes.get(f"{axis}_bins")
        if not names or not bins or len(bins) != len(names) + 1:
            wrong = f"does not say the bins of {axis!r}"
            raise EstimatorError("meta.yaml: skew_fit.bucket_axes", None, wrong, "give labels, and one bin edge more")
        labels.append([str(name) for name in names])
        edges.append(np.asarray(bins[1:-1], dtype=np.float64))
    path, frame = _read_text(folder, "skew_fit", ("pc", *(f"{axis}_label" for axis in _SKEW_AXES), "alpha"))
    import polars as pl

    pc = numbers(str(path), frame, "pc", 0).to_numpy()
    shares = frame["alpha"].str.strip_chars().cast(pl.Float64, strict=False)
    refuse_rows(str(path), frame, "alpha", ~shares.is_finite().fill_null(False), "is not a number")
    chunks = np.unique(pc).astype(np.int64)
    place = [np.searchsorted(chunks, pc)]
    for axis, names in zip(_SKEW_AXES, labels, strict=True):
        column = frame[f"{axis}_label"]
        refuse_rows(str(path), frame, f"{axis}_label", ~column.is_in(names), "is no bin of meta.yaml")
        place.append(np.asarray([names.index(label) for label in column]))
    table = np.full((chunks.size, *(len(names) for names in labels)), float(one.get("alpha_default", 0.0)))
    table[tuple(place)] = shares.to_numpy()
    return SkewFit(chunks, tuple(edges), table)
