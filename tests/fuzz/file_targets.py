"""What reads traces, configurations and what searches leave, each with files to change; and the list of targets."""

import functools
import json
import random
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import tomli_w
from search_cases import made_up_capacity
from vidur_files import BASIC

import traces
from fastsim.config import SimulationConfig
from fastsim.searching.frames import simulated_requests
from fastsim.searching.journal import NAME, Journal
from fastsim.searching.tasks import OK, Outcome
from fastsim.vidur.config_file import VidurFile
from fuzz import samples
from fuzz.mutation import mutated_bytes, mutated_json, mutated_parquet, mutated_text, mutated_tree, packed
from traces.quantile_tables import load_quantile_table
from traces.trace_columns import TraceArrivals, TraceLengths

#: Runs a case: draws by the numbers it is given, in a directory of its own. Raises what the reader raises.
Run = Callable[[random.Random, Path], object]
#: By name.
TARGETS: dict[str, Run] = {}


def target(run: Run) -> Run:
    """Enter a target by its name."""
    TARGETS[run.__name__] = run
    return run


def put(place: Path, name: str, content: bytes) -> Path:
    """Write a file into a directory."""
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@functools.cache
def file_of(write: Callable[[Path], object], name: str) -> bytes:
    """What a function writes into a directory under a name."""
    with tempfile.TemporaryDirectory() as place:
        write(Path(place))
        return (Path(place) / name).read_bytes()


# Traces


@target
def csv_trace(rng: random.Random, place: Path) -> object:
    content = packed(rng, mutated_text, rng.choice(samples.texts_of_traces()))
    return traces.read(put(place, "a.csv", content))


@target
def json_lines_trace(rng: random.Random, place: Path) -> object:
    return traces.read(put(place, "a.jsonl", packed(rng, mutated_text, rng.choice(samples.json_lines()))))


@target
def sharegpt_trace(rng: random.Random, place: Path) -> object:
    content = packed(rng, mutated_json, rng.choice(samples.sharegpt()))
    return traces.read_sharegpt(put(place, "a.json", content), turns=rng.choice(("first", "all")))


@target
def parquet_trace(rng: random.Random, place: Path) -> object:
    return traces.read(put(place, "a.parquet", mutated_parquet(rng, rng.choice(samples.parquet_traces()))))


@target
def scanned_trace(rng: random.Random, place: Path) -> object:
    path = put(place, "a.parquet", mutated_parquet(rng, rng.choice(samples.parquet_traces())))
    return sum(len(chunk) for chunk in traces.Workload.scan(path))


@target
def servegen_archive(rng: random.Random, place: Path) -> object:
    return traces.read(put(place, "a.tar.gz", packed(rng, mutated_bytes, rng.choice(samples.archives()))))


@target
def servegen_folder(rng: random.Random, place: Path) -> object:
    trace, windows = samples.SERVEGEN.values()
    put(place, "chunk-0-trace.csv", trace if rng.random() < 0.5 else mutated_text(rng, trace))
    put(place, "chunk-0-dataset.json", mutated_json(rng, windows))
    return traces.read(place)


@target
def columns_of_a_trace(rng: random.Random, place: Path) -> object:
    path = str(put(place, "a.csv", packed(rng, mutated_text, rng.choice(samples.texts_of_traces()))))
    if rng.random() < 0.5:
        return TraceLengths(path).sample(3, np.random.default_rng(0))
    return TraceArrivals(path).sample(1, np.random.default_rng(0))


@target
def quantile_table(rng: random.Random, place: Path) -> object:
    written = file_of(lambda folder: load_quantile_table("azure_conv_2023").save(folder / "a.json"), "a.json")
    table = load_quantile_table(str(put(place, "a.json", mutated_json(rng, written))))
    return table.sample(5, np.random.default_rng(0))


# Configurations, and what searches leave


@target
def toml_config(rng: random.Random, place: Path) -> object:
    text = _toml()
    if rng.random() < 0.4:
        return SimulationConfig.from_toml(mutated_text(rng, text.encode()).decode("utf-8", "replace"))
    tree = mutated_tree(rng, tomllib.loads(text))
    try:
        text = tomli_w.dumps(tree)
    except (TypeError, AttributeError, ValueError):  # None, which TOML has no word for, or no table
        return None
    return SimulationConfig.from_toml(text)


@functools.cache
def _toml() -> str:
    choices = {"scheduler": "vllm_v1", "engine": "vllm-0.12", "client": "closed", "router": "prefix_aware"}
    objectives = {"ttft_s": 1.0, "0": {"ttft_s": "500ms"}}
    config = SimulationConfig(
        **choices, client_options={"concurrency": 4}, slo=objectives, warmup="5s", cooldown="1req"
    )
    return config.to_toml({"requests": 5})


@target
def vidur_config(rng: random.Random, place: Path) -> object:
    path = put(place, "config.json", mutated_json(rng, json.dumps(BASIC).encode()))
    settings = VidurFile(path).settings(parity=rng.random() < 0.5)
    kinds = {k: v for k, v in settings.serving.items() if v is not None}
    return SimulationConfig(
        **{name: value for name, value in kinds.items() if name in SimulationConfig.__dataclass_fields__}
    )


@target
def journal(rng: random.Random, place: Path) -> object:
    header = {"version": "1", "space": "abc", "slo": [{"limit": 5.0}], "tolerance": 0.02}
    outcomes = [asdict(Outcome(f"id{i}", "chat", None, OK, "", made_up_capacity(i + 1.0), 0.1)) for i in range(3)]
    lines = [json.dumps(line).encode() for line in (header, *outcomes)]
    at = rng.randrange(len(lines))
    lines[at] = mutated_json(rng, lines[at])
    content = b"\n".join(lines) + b"\n" if rng.random() < 0.8 else mutated_bytes(rng, b"\n".join(lines) + b"\n")
    put(place, NAME, content)
    with Journal(place, header, resume=True) as found:
        return [simulated_requests(outcome) for outcome in found.outcomes.values()]
