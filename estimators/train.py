"""Trains the estimators of one device from its profiles and writes them with their provenance."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from estimators import onnx
from estimators.devices import DeviceSpec, load_device
from estimators.dtypes import DTYPE_BYTES, activation_dtype
from estimators.errors import EstimatorError
from estimators.features import OPERATORS, Roofline, operators_of
from estimators.held_out import hold_out, judged_error
from estimators.profiles import ATTENTION, Profiles, runs_per_request
from estimators.regressors import KINDS, MEMBERS, fit
from estimators.sources.aiconfigurator import read_profiles
from estimators.training import TrainingSet

AUTO = "auto"
_LIBRARIES = ("numpy", "scikit-learn", "skl2onnx", "onnx")
# Kernels that widen their weights to bf16 take bf16 activations; the others quantise them like the weights.
_WEIGHTS_ONLY = ("mxfp4", "int4")


def train(
    device: str | DeviceSpec,
    dtype: str,
    out_directory: Path | str,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    backend: str = "vllm",
    version: str | None = None,
    kind: str = "forest",
    profiles: Sequence[Profiles] | None = None,
) -> dict[str, dict[str, Any]]:
    """Train the operators of a device that were measured in a dtype and write ``OUT/<device>-<dtype>/<operator>...``.

    The same profiles, seed and library versions give the same files, byte for byte, on any number of threads.

    Args:
        device: a known device, or one's own; its name is also that of the profiled system.
        dtype: of a product's or the experts' weights, of the KV cache, or of what is sent.
        out_directory: the zoo to write to.
        seed: of the regressors and of the held-out splits.
        progress: is called with a line of text before each operator.
        backend: the engine whose kernels are read from aiconfigurator's tables, and
        version: its version; the newest measured one if None.
        kind: of the regressors, a key of ``regressors.KINDS``, or ``"auto"``: for each operator the kind with the
            least mean error on unseen shapes, or where one model was profiled between the points
            (``held_out.judging_split``).
        profiles: of this dtype, from any source, to train on instead of aiconfigurator's.

    Returns:
        What was written into each file, by operator: source, counts, ranges, held-out errors, and ``bytes``, its size.

    Raises:
        EstimatorError: for an unknown device, dtype or kind, or when nothing was measured.
    """
    spec = device if isinstance(device, DeviceSpec) else load_device(device)
    if kind not in (AUTO, *KINDS):
        raise EstimatorError("kind", kind, "is not a kind of regressor", f"choose one of {', '.join((AUTO, *KINDS))}")
    say = progress or (lambda line: None)
    command = None
    if profiles is None:
        flags = {"device": spec.name, "dtype": dtype, "seed": seed}
        flags |= {"backend": backend} if backend != "vllm" else {}
        flags |= {"version": version} if version is not None else {}
        flags |= {"kind": kind} if kind != "forest" else {}
        command = " ".join(["fastsim estimators train", *(f"--{flag} {value}" for flag, value in flags.items())])
    measured = list(profiles) if profiles is not None else _read_all(spec.name, dtype, backend, version)
    report = {}
    for number, one in enumerate(measured, start=1):
        say(f"{spec.name} {dtype}: {one.operator} ({number}/{len(measured)}, {one.frame.height} rows)")
        model, metadata = train_operator(one, spec, seed, kind, command)
        path = Path(out_directory) / f"{spec.name}-{dtype}" / (one.operator + onnx.SUFFIX)
        onnx.save(path, model)
        report[one.operator] = {**metadata, "bytes": path.stat().st_size}
    return report


def _read_all(system: str, dtype: str, backend: str, version: str | None) -> list[Profiles]:
    """Profiles of every operator that was measured; the error of the first where none was, or none of that version."""
    found: list[Profiles] = []
    errors: list[EstimatorError] = []
    for operator in operators_of(dtype):
        try:
            found.append(read_profiles(system, operator, dtype, backend, version))
        except EstimatorError as error:
            errors.append(error)
    if not found or (version is not None and not any(version in one.engine for one in found)):
        wrong = "has no operators to train"
        raise errors[0] if errors else EstimatorError("dtype", dtype, wrong, "choose one of bf16, fp8 and the like")
    return found


def train_operator(
    profiles: Profiles, device: DeviceSpec, seed: int, kind: str = "forest", command: str | None = None
) -> tuple[bytes, dict[str, Any]]:
    """Train one operator on all its rows; returns the ONNX model and the metadata inside it, ``command`` with it."""
    rows = training_set(profiles, device)
    if kind == AUTO:
        kind = min(KINDS, key=lambda each: judged_error(rows, each, seed))
    metadata = _metadata(profiles, rows, seed, kind) | {"command": command}
    return onnx.export(fit(kind, rows.features, rows.target, seed), rows.features.shape[1], metadata), metadata


def training_set(profiles: Profiles, device: DeviceSpec) -> TrainingSet:
    """Turn measured points into rows to learn from, with the roofline of ``device``."""
    operator, dtype = profiles.operator, profiles.dtype
    columns = {name: profiles.frame[name].to_numpy().astype(np.float64) for name in OPERATORS[operator].columns}
    seconds = profiles.frame["seconds"].to_numpy()
    of_cache = operator in ATTENTION
    roofline = Roofline(
        peak_flops=device.matrix_rate(activation_dtype(dtype) if of_cache else dtype),
        memory_bandwidth=device.memory_bandwidth,
        num_sms=device.num_sms,
        link_bandwidth=device.nvlink_bandwidth,
        floor_s=float(seconds.min()),
        # FlashAttention 2, called "vllm_flash_attn" on older GPUs and what torch has, neither packs nor splits.
        split_kv=not any(kernel.endswith(("flash_attn", "fa2", "torch_varlen")) for kernel in profiles.kernels),
        element_bytes=DTYPE_BYTES[dtype],
        per_request=of_cache and runs_per_request(profiles.kernels),
        operand_bytes=DTYPE_BYTES[activation_dtype(dtype) if of_cache or dtype in _WEIGHTS_ONLY else dtype],
    )
    return TrainingSet.of(operator, columns, seconds, roofline)


def _metadata(profiles: Profiles, rows: TrainingSet, seed: int, kind: str) -> dict[str, Any]:
    held_out = hold_out(rows, kind, seed)
    counts = {
        "read": profiles.rows_read,
        "dropped": profiles.rows_dropped,
        "merged": profiles.rows_duplicate,
        "used": profiles.frame.height,
        "outliers": profiles.outliers,
    }
    # What is usual is left out, as in the files of the package, which are older than these words.
    judge = {} if held_out.judged_by == "shapes" else {"judged_by": held_out.judged_by}
    roofline = {name: value for name, value in asdict(rows.roofline).items() if name != "per_request" or value}
    return {
        "operator": profiles.operator,
        "device": profiles.system,
        "dtype": profiles.dtype,
        "source": profiles.source,
        "engine": profiles.engine,
        "kernels": list(profiles.kernels),
        "licence": profiles.licence,
        "rows": counts,
        "profiled": rows.profiled,
        "measured_values": rows.measured_values,
        "features": list(OPERATORS[profiles.operator].features),
        "roofline": roofline,
        "held_out_errors": held_out.errors,
        "picture": held_out.picture,
        "calibration": asdict(held_out.calibration),
        "regressor": {"kind": kind, "members": MEMBERS, "seed": seed},
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        **judge,
    }
