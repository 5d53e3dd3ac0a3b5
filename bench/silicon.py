"""Accuracy against measured deployments: closed-loop points in the format of aiconfigurator's ``silicon_sample.csv``.

    python bench/silicon.py vllm_aggregate.csv [--json]

A row is a vLLM server under ``concurrency`` clients, each of which sends a prompt of ``isl`` tokens, waits for its
``osl`` output tokens and sends the next. What rows do not record is assumed, alike for all rows of one origin:

* All: ten prompts per client, all clients start at once on a server that has served nothing before, and every request
  counts; 8,192 tokens per batch, vLLM's default on these cards. What is compared is the mean over requests.
* Rows of the public InferenceMAX runs (``measured=`` in their source) are loaded as its scripts do: lengths uniform
  between 0.8 of the stated ones and all of them, no prefix caching, asynchronous scheduling, ``max_num_seqs`` =
  concurrency (https://github.com/SemiAnalysisAI/InferenceX, benchmarks/70b_fp8_h100_slurm.sh and
  benchmarks/gptoss_fp4_h100.sh; https://github.com/kimbochen/bench_serving). Their KV cache is taken to be bf16, as the
  latter leaves it; the former asks for fp8, but two GPUs with one in fp8 would not have kept requests waiting for half
  a minute, as was measured.
* Others as aiconfigurator's own benchmark does (https://github.com/ai-dynamo/aiconfigurator, generator/config): aiperf
  with fixed lengths and its default of 100 different prompts, sent again and again to a server that caches prefixes, as
  vLLM does unless told otherwise. Their KV cache has the type of the weights, for which aiconfigurator asks. That
  prompts repeat is not recorded: it is inferred from throughputs that no GPU reaches if it computes every prompt.

Weights have the type of the checkpoint, of which ``precision`` tells the size, and where the checkpoint leaves it free
that of ``gemm_quant_mode``. How unequally tokens fall on experts is not recorded: it is the package's default, a power
law measured at an exponent of 1.2, chosen before any row was simulated.

No number was fitted to the rows, but what is assumed of the others was chosen with 21 of them in view. ``bias`` is the
mean of simulated / measured - 1.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from common import Row, emit, errors_by, figure, note, parser, print_groups
from silicon_rows import check_measured, check_seats, count_of, is_inferencemax, read_rows, repeated

import fastsim
from estimators import EstimatorError
from estimators.models import load_model
from fastsim.engine_presets import engine_of_vllm
from fastsim.errors import ConfigError

REQUESTS_PER_CLIENT = 10
PROMPTS, BLOCK_TOKENS = 100, 16
LENGTH_RANGE = 0.8
MAX_NUM_BATCHED_TOKENS = 8192
#: Types of weights that a precision stands for, and names of the mode that are not those of the type.
PRECISIONS = {"bf16": ("bf16",), "fp8": ("fp8", "fp8_block"), "fp4": ("mxfp4", "nvfp4")}
MODES = {"bfloat16": "bf16", "float16": "bf16", "fp8_static": "fp8"}


@dataclass(frozen=True)
class Load:
    """What the clients of a row send.

    Attributes:
        isl: tokens of a prompt; the most where they vary.
        osl: output tokens of a request; the most where they vary.
        concurrency: clients; None where the row does not tell.
        is_inferencemax: lengths vary and prompts do not repeat.
    """

    isl: int
    osl: int
    concurrency: int | None
    is_inferencemax: bool

    def workload(self) -> fastsim.Workload:
        """The requests in the order in which they are sent; a closed loop sets their times."""
        n = REQUESTS_PER_CLIENT * (self.concurrency or 0)
        if self.is_inferencemax:
            draw = np.random.default_rng(0)
            prompt, output = (draw.integers(int(LENGTH_RANGE * most), most + 1, n) for most in (self.isl, self.osl))
            return fastsim.Workload.from_arrays(np.zeros(n), prompt, output)
        blocks = self.isl // BLOCK_TOKENS
        ids = (np.arange(n)[:, None] % PROMPTS) * blocks + np.arange(blocks)
        lengths = np.full(n, self.isl), np.full(n, self.osl)
        return fastsim.Workload.from_arrays(np.zeros(n), *lengths, block_ids=ids.tolist(), block_tokens=BLOCK_TOKENS)


def load_of(measured: Mapping[str, Any]) -> Load:
    """Read what loaded a row's server.

    Raises:
        ConfigError: a length or a number is none.
    """
    source = measured["silicon_data_source"] or ""
    recorded = re.search(r"silicon_concurrency=(\d+)", source)
    isl, osl = count_of(measured, "isl"), count_of(measured, "osl")
    if recorded:
        concurrency: int | None = int(recorded[1])
    elif measured["batch_size"] is None:
        concurrency = None
    else:
        concurrency = count_of(measured, "batch_size") * count_of(measured, "attention_dp_size", 1)
    return Load(isl, osl, concurrency, is_inferencemax(measured))


def configuration(measured: Mapping[str, Any], load: Load) -> fastsim.SimulationConfig:
    """The server of a row.

    Raises:
        ValueError: it is not simulated; the sentence says why.
    """
    if measured["backend"] != "vllm":
        raise ValueError(f"backend {measured['backend']} has other kernels than those that were measured for the zoo")
    if measured["mode"] != "agg":
        raise ValueError(f"mode {measured['mode']} is not simulated")
    if not load.concurrency:
        raise ValueError("concurrency is not recorded")
    engine, engine_options = engine_of_vllm(measured["backend_version"] or "")
    ahead = {"async_scheduling": True} if load.is_inferencemax else {}
    return fastsim.SimulationConfig(
        model=measured["model_path"],
        device=measured["system"],
        tensor_parallel=count_of(measured, "tp_size"),
        pipeline_parallel=count_of(measured, "pp_size", 1),
        data_parallel=count_of(measured, "attention_dp_size", 1),
        expert_parallel=count_of(measured, "moe_ep_size", 1),
        max_model_len=load.isl + load.osl,
        dtype=weight_dtype(measured),
        kv_dtype="fp8" if measured["precision"] in ("fp8", "fp4") and not load.is_inferencemax else "bf16",
        scheduler_options={
            "max_num_seqs": load.concurrency,
            "max_num_batched_tokens": MAX_NUM_BATCHED_TOKENS,
            "enable_prefix_caching": not load.is_inferencemax,
        },
        engine=engine,
        engine_options={**engine_options, **ahead},
        client="closed",
        client_options={"concurrency": load.concurrency},
    )


def weight_dtype(measured: Mapping[str, Any]) -> str:
    """Type of the weights of the layers.

    Raises:
        ValueError: it is not known, or ``precision`` is not that of the checkpoint.
    """
    precision, mode = measured["precision"], measured["gemm_quant_mode"] or ""
    checkpoint = load_model(measured["model_path"]).weight_dtype
    dtype: str = checkpoint or MODES.get(mode, mode) or precision or "bf16"
    if precision and dtype not in PRECISIONS.get(precision, ()):
        raise ValueError(f"precision {precision} is not that of weights of type {dtype}")
    return dtype


def compared(measured: Mapping[str, Any], copy_of: int | None = None) -> Row:
    """Simulate a row, unless it is a copy of another; what is wrong with it is told in ``skipped``."""
    row: Row = {
        "model": measured["model_path"],
        "system": measured["system"],
        "precision": measured["precision"] or "bf16",
        "tp": measured["tp_size"],
        "isl": measured["isl"],
        "osl": measured["osl"],
        "concurrency": None,
        "measured_tpot_ms": measured["silicon_tpot_ms"],
        "simulated_tpot_ms": None,
        "measured_ttft_ms": measured["silicon_ttft_ms"],
        "simulated_ttft_ms": None,
        "skipped": None,
    }
    try:
        if copy_of:
            raise ValueError(f"repeats row {copy_of}")
        load = load_of(measured)
        row["concurrency"] = load.concurrency
        check_measured(measured)
        check_seats(measured)
        metrics = fastsim.simulate(configuration(measured, load), load.workload()).summary["metrics"]
    except (ValueError, EstimatorError) as error:
        return row | {"skipped": str(error)}
    return row | {f"simulated_{metric}_ms": 1e3 * metrics[f"{metric}_s"]["mean"] for metric in ("tpot", "ttft")}


def errors(rows: Iterable[Row]) -> list[Row]:
    """Errors over all simulated rows, then over those of each model, system and tp."""
    names = ("model", "system", "tp", "metric")
    simulated = [row for row in rows if not row["skipped"]]
    groups: list[Row] = []
    for metric in ("tpot", "ttft"):
        known = [
            {name: row[name] for name in names[:3]}
            | {"metric": metric, "error": row[f"simulated_{metric}_ms"] / row[f"measured_{metric}_ms"] - 1}
            for row in simulated
            if row[f"measured_{metric}_ms"] is not None
        ]
        whole = {"model": "all", "system": "all", "tp": "all"}
        groups += [*errors_by([row | whole for row in known], names), *errors_by(known, names)]
    return groups


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: errors of each group."""
    for row in printed["groups"]:
        what, name = f"{row['metric'].upper()}, mean over requests", f"{row['model']}, {row['system']}, TP {row['tp']}"
        yield figure(what, name, "points", row["rows"], "")
        yield figure(what, name, "median absolute error", row["median_ape"], "%")
        yield figure(what, name, "mean absolute error", row["mape"], "%")
        yield figure(what, name, "bias", row["bias"], "+%")


def main() -> int:
    """Print the rows and the errors of their groups; returns the exit code."""
    arguments = parser("accuracy on measured deployments")
    arguments.add_argument("csv", help="rows in the format of aiconfigurator's silicon_sample.csv")
    options = arguments.parse_args()
    try:
        every = read_rows(options.csv)
    except ConfigError as error:
        note(str(error))
        return 2
    rows: list[Row] = []
    copies = repeated(every)
    for i, measured in enumerate(every[: 3 if options.smoke else None], start=1):
        rows.append({"row": i, **compared(measured, copies[i - 1])})
        if i % 10 == 0:
            note(f"{i} of {len(every)} rows")
    groups = errors(rows)
    emit(rows, options.json, groups=groups)
    if not options.json:
        print_groups(groups)
    return 0


if __name__ == "__main__":
    sys.exit(main())
