"""The operators of which the tables by tokens and by sequences are sums, each by itself."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np

from estimators import cache as table_cache
from estimators.build import Deployment, load_estimators, table_sources
from estimators.devices import DeviceSpec
from estimators.files import replace_file
from estimators.layout import FloatArray, TableLayout
from estimators.model_spec import ModelSpec
from estimators.operators import OperatorCall
from estimators.row_tables import Clock, token_steps

#: Axes whose tables are taken apart.
AXES = ("tokens", "sequences")


def operator_rows(
    spec: ModelSpec, device: DeviceSpec, deployment: Deployment, layout: TableLayout, member: int = 0
) -> dict[str, dict[str, FloatArray]]:
    """Seconds of every operator by tokens and by sequences, from the cache or evaluated now and kept.

    Args:
        spec: the model.
        device: the GPU.
        deployment: what is tabulated.
        layout: of the tables.
        member: as in ``IterationTables.build``.

    Returns:
        By axis and name, in the order of an iteration, an array of shape (most + 1,); calls of one name are one.
    """
    calls = [call for call in deployment.calls(spec) if call.axis in AXES]
    known = load_estimators(tuple(calls), device)
    most = {"tokens": layout.max_tokens, "sequences": layout.max_sequences}
    parts = {
        "what": "operators",
        **deployment.provenance(spec),
        "model": asdict(spec),
        "device": asdict(device),
        "member": member,
        "most": most,
        "estimators": {kind: of.hash for kind, of in known.items()},
    }
    key = table_cache.content_key(parts, [*table_sources(), Path(__file__)])
    path = table_cache.cache_directory() / f"{key}.operators"
    lengths = [most[call.axis] + 1 for call in calls]
    flat = kept(path)
    if flat is None:
        flat = np.concatenate(_evaluate(calls, Clock(device, known, member), most))
        with contextlib.suppress(OSError):  # A cache that cannot be written is done without, as by the tables.
            replace_file(path, lambda file: file.write(content_of(flat)))
    rows: dict[str, dict[str, FloatArray]] = {axis: {} for axis in AXES}
    for call, seconds in zip(calls, np.split(flat, np.cumsum(lengths)[:-1]), strict=True):
        rows[call.axis][call.name] = rows[call.axis].get(call.name, 0.0) + seconds
    return rows


def content_of(flat: FloatArray) -> bytes:
    """What a file of the cache has for some values."""
    values = flat.tobytes()
    return hashlib.sha256(values).digest() + values


def kept(path: Path) -> FloatArray | None:
    """The values of a file of the cache: a SHA-256, and float64 values of which it is; None where it is not that."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, values = content[: hashlib.sha256().digest_size], content[hashlib.sha256().digest_size :]
    return np.frombuffer(values, np.float64) if digest == hashlib.sha256(values).digest() else None


def _evaluate(calls: list[OperatorCall], clock: Clock, most: dict[str, int]) -> list[FloatArray]:
    """Seconds of each of the calls from 0 to the end of its axis, at the steps of the tables and between them."""
    steps = {axis: np.arange(1, end + 1) if axis == "sequences" else token_steps(end) for axis, end in most.items()}
    chosen = [(call, steps[call.axis]) for call in calls]
    return [
        np.append(0.0, np.interp(np.arange(1, most[call.axis] + 1), at, call.count * seconds))
        for (call, at), seconds in zip(chosen, clock.rows(chosen), strict=True)
    ]
