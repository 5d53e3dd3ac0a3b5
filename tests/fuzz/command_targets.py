"""The command lines, with flags and files that are changed, and the directories that commands read again."""

import contextlib
import functools
import io
import json
import os
import random
import tempfile
import warnings
from pathlib import Path

from report_files import write_run
from search_files import write_search
from vidur_files import BASIC

from fastsim.cli import COMMANDS, main
from fastsim.commands import parsing
from fuzz import samples
from fuzz.file_targets import target
from fuzz.mutation import WORDS, mutated_bytes, mutated_json, mutated_parquet, mutated_text

#: Small enough that tables are built in a moment, and kept.
_SMALL = ["--max-model-len", "512", "--num-kv-blocks", "200", "--scheduler.max-num-seqs", "16"]
_SMALL += ["--scheduler.max-num-batched-tokens", "128", "--requests", "20"]
_FEW = ["--lengths", "uniform", "--lengths.prompt-min", "10", "--lengths.prompt-max", "200"]
_FEW += ["--lengths.output-min", "1", "--lengths.output-max", "20"]
LINES = [
    ["run", *_SMALL, "--qps", "5", "--arrivals", "gamma", "--arrivals.cv", "2", "--json"],
    [
        "run",
        *_SMALL,
        *_FEW,
        "--slo",
        "ttft=1s,tpot=50ms",
        "--slo.0",
        "ttft=500ms",
        "--warmup",
        "1s",
        "--cooldown",
        "2req",
    ],
    ["run", *_SMALL, "--client", "closed", "--client.concurrency", "4", "--router", "prefix_aware", "--replicas", "2"],
    [
        "run",
        *_SMALL,
        "--conversations",
        "geometric",
        "--conversations.turns",
        "3",
        "--engine",
        "vllm-0.12",
        "--seed",
        "3",
    ],
    [
        "run",
        *_SMALL,
        "--class-shares",
        "0.2,0.8",
        "--queue",
        "priority",
        "--power-watts",
        "300",
        "--price-per-hour",
        "2",
    ],
    ["run", *_SMALL, "--trace", "a.csv", "--trace.rate-scale", "2", "--trace.start", "0", "--out", "o"],
    ["run", *_SMALL, "--out", "o", "--trace-window", "0:5", "--event-trace", "e.jsonl", "--record-batches"],
    ["run", "--config", "a.toml"],
    ["run", "--vidur-config", "config.json", "--requests", "20"],
    ["traces", "describe", "a.csv", "--requests", "3", "--plot", "a.html"],
    ["traces", "describe", "chat-1m", "--requests", "50", "--qps", "5", "--seed", "1", "--json"],
    ["traces", "convert", "a.csv", "a.parquet"],
    ["traces", "list"],
    ["estimators", "list"],
    ["estimators", "show", "Llama-3.1-8B", "h100_sxm", "--decodes", "4", "--kv", "100", "--chunks", "64+0"],
    ["estimators", "show", "--device", "h100_sxm"],
    ["report", "o", "--out", "a.html"],
    ["explain", "o", "--json"],
    ["bench", "--scenarios"],
]
_CONFIG = """model = "Llama-3.1-8B"
max_model_len = 512
num_kv_blocks = 200
requests = 20
[scheduler]
name = "vllm_v1"
max_num_seqs = 16
max_num_batched_tokens = 128
[workload]
qps = 5
"""
_SPACE = """[space]
tensor_parallel = [1, 2]
gpus = 2
max_model_len = 512
num_kv_blocks = 200
scheduler = [{name = "vllm_v1", max_num_seqs = [9, 16], max_num_batched_tokens = 128}]
[workload]
requests = 20
lengths = {name = "uniform", prompt_min = 10, prompt_max = 200, output_min = 1, output_max = 9}
[slo]
ttft_s = {p90 = 0.5}
[search]
tolerance = 0.2
"""


def call(place: Path, words: list[str]) -> int:
    """Call the command in a directory; it ends with a result, or with one sentence and exit code 2."""
    out, err = io.StringIO(), io.StringIO()
    before, parsing.PATIENCE_S = Path.cwd(), 1e6
    os.chdir(place)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("always")
            try:
                code = main(words)
            except SystemExit as end:  # argparse, after --help
                code = int(end.code or 0)
    finally:
        os.chdir(before)
    said = [line for line in err.getvalue().splitlines() if not line.startswith("fastsim: note: ")]
    if code == 2 and (len(said) != 1 or not said[0].startswith("fastsim: ") or not said[0].endswith(".")):
        raise AssertionError(f"not one sentence: {said}")
    if code not in (0, 2) or (code == 2 and out.getvalue()):
        raise AssertionError(f"exit code {code}, {out.getvalue()[:200]!r}")
    return code


@target
def command_line(rng: random.Random, place: Path) -> object:
    (place / "a.csv").write_bytes(samples.texts_of_traces()[-4])
    (place / "a.toml").write_text(_CONFIG)
    (place / "config.json").write_text(json.dumps(BASIC))
    words = list(rng.choice(LINES))
    if words[0] in ("report", "explain"):
        write_run(place / "o")
    usable = [word for word in WORDS if "\x00" not in word and "/" not in word and len(word) < 1000]
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        at, kind = rng.randrange(len(words)) if words else 0, rng.random()
        if kind < 0.6 and words and not words[at].startswith("--"):
            words[at] = rng.choice(usable)
        elif kind < 0.8 or not words:
            words.insert(at, rng.choice(rng.choice(LINES)))
        else:
            del words[at]
    if words and words[0] not in {line[0] for line in LINES} | {"--help", "--version"} and words[0] in COMMANDS:
        return None  # of those that take long or measure
    return call(place, words)


@target
def run_of_a_toml_file(rng: random.Random, place: Path) -> object:
    (place / "a.toml").write_bytes(mutated_text(rng, _CONFIG.encode()))
    return call(place, ["run", "--config", "a.toml", "--requests", "20", "--json"])


@target
def search_of_a_toml_file(rng: random.Random, place: Path) -> object:
    from fastsim.commands.search_file import read_search_file, read_space, read_workloads
    from fastsim.searching.limits import read_limits

    (place / "space.toml").write_bytes(mutated_text(rng, _SPACE.encode()))
    file = read_search_file(str(place / "space.toml"))
    space = read_space(file)
    limits = read_limits(file.slo or None)
    return (
        space.candidates(),
        limits,
        read_workloads(file, space, 0),
    )


@functools.cache
def _run() -> dict[str, bytes]:
    """The directory of a real run."""
    with tempfile.TemporaryDirectory() as place:
        assert call(Path(place), ["run", *_SMALL, "--out", "o"]) == 0
        return {path.name: path.read_bytes() for path in (Path(place) / "o").iterdir()}


@functools.cache
def _search() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as place:
        return {path.name: path.read_bytes() for path in write_search(Path(place) / "o").iterdir()}


def _changed(rng: random.Random, place: Path, files: dict[str, bytes]) -> None:
    (place / "o").mkdir()
    changed = rng.choice(list(files))
    for name, content in files.items():
        if name == changed:
            by_end = {"json": mutated_json, "toml": mutated_text, "parquet": mutated_parquet}
            content = by_end.get(name.rpartition(".")[2], mutated_bytes)(rng, content)
        (place / "o" / name).write_bytes(content)


@target
def report_of_a_run(rng: random.Random, place: Path) -> object:
    _changed(rng, place, _run())
    return call(place, ["report", "o", "--out", "a.html"])


@target
def report_of_a_search(rng: random.Random, place: Path) -> object:
    _changed(rng, place, _search())
    return call(place, ["report", "o", "--out", "a.html"])


@target
def explanation_of_a_run(rng: random.Random, place: Path) -> object:
    _changed(rng, place, _run())
    return call(place, ["explain", "o", "--json"])
