"""Measured runs of vLLM: a folder with ``meta.json``, ``requests.jsonl`` and ``workload.jsonl``, each gzipped or not.

Arrivals are wall-clock times and the other stamps monotonic ones of the engine's process. Their difference is taken to
be the smallest that any request shows between its arrival and the engine's picking it up, so what the fastest request
spent in the front end counts as no time.
"""

import argparse
import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from common import FloatArray, note

from fastsim import Workload
from fastsim.errors import ConfigError

BLOCK_TOKENS = 16
_STAMPS = ("arrival_time", "queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts")
_LENGTHS = ("input_toks", "output_toks")
#: Quantiles by name; of the mean none.
STATISTICS = {"mean": None, "p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True)
class Measured:
    """What one run recorded; arrays are float64 of shape (requests,), by arrival, seconds from the first one.

    Attributes:
        name: of the folder.
        meta: ``meta.json``.
        model: its name.
        hardware: name of the GPU.
        tp: GPUs that share each layer, as upstream_sim_config.json says.
        gpu_memory_bytes: of one GPU; None where nothing says it.
        workload: the requests as the engine got them: with their recorded arrivals, lengths and block ids.
        arrival_s: when the client sent it.
        queued_s: when the engine's loop picked it up.
        scheduled_s: when its first batch was formed.
        first_token_s: when the engine had its first token.
        completed_s: when it had its last one.
        notes: what was inferred.
    """

    name: str
    meta: Mapping[str, Any]
    model: str
    hardware: str
    tp: int
    gpu_memory_bytes: int | None
    workload: Workload
    arrival_s: FloatArray
    queued_s: FloatArray
    scheduled_s: FloatArray
    first_token_s: FloatArray
    completed_s: FloatArray
    notes: tuple[str, ...]

    def metrics(self) -> dict[str, FloatArray]:
        """Seconds of each request by metric; tpot of those with more than one output token."""
        return metrics_of(self.arrival_s, self.first_token_s, self.completed_s, self.workload.output_tokens)


def metrics_of(
    arrival_s: FloatArray, first_token_s: FloatArray, completed_s: FloatArray, output_tokens: npt.NDArray[np.int64]
) -> dict[str, FloatArray]:
    """Time to first token, time per output token behind it, and latency, seconds."""
    several = output_tokens > 1
    decoding_s = (completed_s - first_token_s)[several]
    return {
        "ttft": first_token_s - arrival_s,
        "tpot": decoding_s / (output_tokens[several] - 1),
        "latency": completed_s - arrival_s,
    }


def statistics(values: FloatArray, names: Iterable[str] = STATISTICS) -> dict[str, float]:
    """Mean and quantiles, of linear interpolation."""
    quantiles = {name: STATISTICS[name] for name in names}
    return {name: float(values.mean() if q is None else np.quantile(values, q)) for name, q in quantiles.items()}


def add_run_flags(arguments: argparse.ArgumentParser) -> None:
    """Add the flags that every bench on measured runs has."""
    arguments.add_argument("directory", type=Path, help="folder of runs, or one run")
    arguments.add_argument("--profiles", type=Path, required=True, help="directory with operator profiles below it")


def chosen_folders(options: argparse.Namespace) -> list[Path]:
    """The folders of the runs that the flags name, the first alone with ``--smoke``; a note if there is none."""
    folders = run_folders(options.directory)
    if not folders:
        note(f"{options.directory} holds no run: a run is a folder with meta.json")
    return folders[:1] if options.smoke else folders


def run_folders(directory: Path) -> list[Path]:
    """The folders of runs in a directory, or itself if it is one."""
    if (directory / "meta.json").is_file():
        return [directory]
    return sorted(path.parent for path in directory.glob("*/meta.json"))


def read_run(folder: Path) -> Measured:
    """Read a run.

    Raises:
        ConfigError: a file is missing or does not hold what is needed; the sentence names it.
    """
    folder = folder.resolve()
    meta = _read_object(folder / "meta.json")
    upstream = folder / "upstream_sim_config.json"
    instance = _first_instance(_read_object(upstream)) if upstream.is_file() else {}
    hardware, _, model = folder.name.partition("_")
    notes: list[str] = []
    rows = _completed(folder, meta, notes)
    stamps = {stamp: np.array([row[stamp] for row in rows], np.float64) for stamp in _STAMPS}
    arrival_s = stamps["arrival_time"] - stamps.pop("arrival_time")[0]
    offset = float((stamps["queued_ts"] - arrival_s).min())
    queued_s, scheduled_s, first_token_s, completed_s = (values - offset for values in stamps.values())
    memory = part_of(meta, "hardware").get("device_total_memory_bytes")
    if memory is not None and type(memory) is not int:
        wrong = "of meta.json is no whole number"
        raise ConfigError("device_total_memory_bytes", memory, wrong, "give bytes")
    if memory is None and (nominal := part_of(instance, "npu_mem").get("mem_size")):
        memory = int(nominal * 2**30)
        notes.append(f"GPU memory of {nominal} GiB (upstream_sim_config.json)")
    return Measured(
        name=folder.name,
        meta=meta,
        model=meta.get("model") or instance.get("model_name") or model,
        hardware=instance.get("hardware") or hardware,
        tp=instance.get("tp_size") or 1,
        gpu_memory_bytes=memory,
        workload=_workload(folder, rows, arrival_s, notes),
        arrival_s=arrival_s,
        queued_s=queued_s,
        scheduled_s=scheduled_s,
        first_token_s=first_token_s,
        completed_s=completed_s,
        notes=tuple(notes),
    )


def part_of(whole: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of an object of a record that is an object itself; an empty one if it is not there, or is none."""
    part = whole.get(name)
    return part if isinstance(part, Mapping) else {}


def _completed(folder: Path, meta: Mapping[str, Any], notes: list[str]) -> list[dict[str, Any]]:
    """The rows of the requests that completed, by arrival."""
    every = _read_lines(folder, "requests")
    rows = [row for row in every if all(row.get(name) is not None for name in (*_STAMPS, *_LENGTHS))]
    if not rows:
        raise ConfigError("requests.jsonl", None, f"of {folder} has no request that completed", "give a complete run")
    if len(rows) < len(every):
        notes.append(f"{len(every) - len(rows)} requests that lack a time or a length are left out")
    sent = meta.get("num_requests")
    if isinstance(sent, int) and len(every) < sent:
        notes.append(f"{sent - len(every)} of {sent} requests are left out (not in requests.jsonl)")
    return sorted(rows, key=lambda row: row["arrival_time"])


def _workload(folder: Path, rows: list[dict[str, Any]], arrival_s: FloatArray, notes: list[str]) -> Workload:
    """The requests with their recorded arrivals and lengths, and the block ids of their prompts."""
    blocks = {row.get("request_id"): row.get("prompt_block_ids") for row in _read_lines(folder, "workload")}
    ids = [blocks.get(row.get("request_id")) for row in rows]
    named: dict[str, Any] = {"block_ids": ids, "block_tokens": BLOCK_TOKENS}
    if any(one is None for one in ids):
        notes.append("no prompt shares a prefix (the workload does not name the blocks of every request)")
        named = {}
    prompt, output = ([row[name] for row in rows] for name in _LENGTHS)
    return Workload.from_arrays(arrival_s, prompt, output, **named)


def _first_instance(upstream: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first engine that the configuration of the run's own simulator lists."""
    nodes = upstream.get("nodes") or [{}]
    instances = nodes[0].get("instances") or [{}]
    found: Mapping[str, Any] = instances[0]
    return found


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(path.name, None, f"of {path.parent} cannot be read ({error})", "give a whole run") from error
    if not isinstance(found, dict):
        raise ConfigError(path.name, None, f"of {path.parent} holds no JSON object", "give a whole run")
    return found


def _read_lines(folder: Path, name: str) -> list[dict[str, Any]]:
    """The objects of ``NAME.jsonl`` or ``NAME.jsonl.gz``."""
    path = next((path for end in ("jsonl", "jsonl.gz") if (path := folder / f"{name}.{end}").is_file()), None)
    if path is None:
        raise ConfigError(f"{name}.jsonl", None, f"is not in {folder}", "give a whole run")
    raw = path.read_bytes()
    try:
        text = gzip.decompress(raw) if path.suffix == ".gz" else raw
        found = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, EOFError, ValueError) as error:
        raise ConfigError(path.name, None, f"of {folder} cannot be read ({error})", "give a whole run") from error
    if not all(isinstance(line, dict) for line in found):
        raise ConfigError(path.name, None, f"of {folder} has a line that is no JSON object", "give a whole run")
    return found
