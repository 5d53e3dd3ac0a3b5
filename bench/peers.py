"""Other simulators on the same requests: what they read, how they are called, and the real Vidur's recorded speed.

    python bench/peers.py --out DIR [--requests 1000] [--qps 1.2]    # writes requests, prints commands
    python bench/peers.py --golden DIR [--json]                      # our time on requests that Vidur has run

None of them is installed or run here (docs/peers.md). The requests have the embedded lengths, cut to 4,096 tokens as
Vidur's tables are, and arrive as a Poisson process; no two prompts share a prefix. ``--golden`` names the folder of
bench/parity.py: each run holds what CPU time Vidur took for it, with its token and batch metrics switched on, on a
two-core cloud machine; ours is the wall time of the best of several calls with kernels compiled, composing the tables
included, under Vidur's rules and with the same results. The machines were alike, but are not the same.
"""

import csv
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from common import Row, emit, figure, note, parser
from parity import golden_folders, read_golden

from traces import Workload, generate

MAX_TOKENS, MOONCAKE_BLOCK, VOCABULARY = 4096, 512, 32000
COMMANDS = {
    "fastsim": "fastsim run --model meta-llama/Llama-2-70b-hf --device a100_sxm --tp 2 --max-model-len 4096 "
    "--scheduler sarathi --scheduler.max-num-seqs 128 --scheduler.chunk-size 512 --trace vidur.csv",
    "Vidur": "python -m vidur.main --replica_config_model_name meta-llama/Llama-2-70b-hf --replica_config_device a100 "
    "--replica_config_network_device a100_dgx --replica_config_tensor_parallel_size 2 "
    "--replica_config_num_pipeline_stages 1 --cluster_config_num_replicas 1 "
    "--replica_scheduler_config_type sarathi --sarathi_scheduler_config_batch_size_cap 128 "
    "--sarathi_scheduler_config_chunk_size 512 --request_generator_config_type trace_replay "
    "--trace_request_generator_config_trace_file vidur.csv --trace_request_generator_config_max_tokens 4096 "
    "--trace_request_generator_config_prefill_scale_factor 1 --trace_request_generator_config_decode_scale_factor 1 "
    "--trace_request_generator_config_time_scale_factor 1",
    "LLMServingSim": "python -m serving --cluster-config CLUSTER.json --dtype bfloat16 --block-size 16 "
    "--dataset llmservingsim.jsonl --output sim.csv --num-reqs {requests}",
    "SplitwiseSim": "python run.py applications.0.scheduler=token_jsq cluster=half_half cluster.servers.0.count=1 "
    "cluster.servers.1.count=0 start_state=baseline performance_model=db trace.filename=splitwise seed=0",
    "vLLM, a real server": "vllm bench serve --backend openai --endpoint /v1/completions --model MODEL "
    "--dataset-name timed_trace --dataset-path mooncake.jsonl --self-timed --timed-trace-chunk-hash-size 512 "
    "--timed-trace-sec-multiplier 0.001 --num-prompts {requests} --ignore-eos --disable-shuffle",
    "aiconfigurator": "aiconfigurator cli default --model MODEL --total_gpus 8 --system h200_sxm --isl {prompt:.0f} "
    "--osl {output:.0f} --ttft 1000 --tpot 50",
}


def requests_of(number: int, qps: float) -> Workload:
    """The requests."""
    return generate(num_requests=number, qps=qps, max_total_tokens=MAX_TOKENS, seed=0)


def write(workload: Workload, out: Path) -> None:
    """Write a workload in the format of each simulator."""
    out.mkdir(parents=True, exist_ok=True)
    rows = list(
        zip(
            *(part.tolist() for part in (workload.arrival_s, workload.prompt_tokens, workload.output_tokens)),
            strict=True,
        )
    )
    _write_csv(out / "vidur.csv", ["arrived_at", "num_prefill_tokens", "num_decode_tokens"], rows)
    names = ["request_id", "request_type", "application_id", "arrival_timestamp", "batch_size", "prompt_size"]
    splitwise = [(i, 2, 0, at_s, 1, prompt, output) for i, (at_s, prompt, output) in enumerate(rows)]
    _write_csv(out / "splitwise.csv", [*names, "token_size"], splitwise)
    draw, block = np.random.default_rng(0), 0
    with (
        open(out / "llmservingsim.jsonl", "w", encoding="utf-8") as llmservingsim,
        open(out / "mooncake.jsonl", "w", encoding="utf-8") as mooncake,
    ):
        for at_s, prompt, output in rows:
            tokens = draw.integers(VOCABULARY, size=prompt).tolist()
            line = {"input_toks": prompt, "output_toks": output, "arrival_time_ns": round(1e9 * at_s)}
            llmservingsim.write(json.dumps(line | {"input_tok_ids": tokens}) + "\n")
            ids = list(range(block, block := block + -(-prompt // MOONCAKE_BLOCK)))
            line = {"timestamp": round(1e3 * at_s), "input_length": prompt, "output_length": output, "hash_ids": ids}
            mooncake.write(json.dumps(line) + "\n")


def _write_csv(path: Path, names: list[str], rows: list[tuple[float, ...]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([names, *rows])


def commands(workload: Workload) -> Iterator[tuple[str, str]]:
    """Who is called how, on the files that `write` leaves."""
    means = {"prompt": workload.prompt_tokens.mean(), "output": workload.output_tokens.mean()}
    for name, command in COMMANDS.items():
        yield name, command.format(requests=len(workload), **means)


def timed(folder: Path, repeats: int) -> Row:
    """One run of Vidur, and ours of the same requests; rates are of those that completed."""
    golden = read_golden(folder)
    walls = []
    for _ in range(1 + repeats):  # the first compiles, or loads the kernel
        began = time.perf_counter()
        golden.run()
        walls.append(time.perf_counter() - began)
    ours, theirs, number = min(walls[1:]), golden.told["summary"]["cpu_run"], int(golden.wanted["completed"].sum())
    rates = {"vidur_requests_per_s": number / theirs, "requests_per_s": number / ours}
    return {"run": folder.resolve().name, "completed": number, "vidur_cpu_s": theirs, "wall_s": ours, **rates}


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: requests/s of either, and their ratio."""
    for row in printed["rows"]:
        what = "The same requests under the same rules, with the same results"
        yield figure(what, row["run"], "Vidur, as recorded", row["vidur_requests_per_s"], "requests/s")
        yield figure(what, row["run"], "fastsim", row["requests_per_s"], "requests/s")
        yield figure(what, row["run"], "ratio", row["vidur_cpu_s"] / row["wall_s"], "")


def main() -> int:
    """Write requests and print commands, or print rows; returns the exit code."""
    arguments = parser("other simulators on the same requests")
    arguments.add_argument("--out", type=Path, help="folder for the requests, in the format of each simulator")
    arguments.add_argument("--requests", type=int, default=1000)
    arguments.add_argument("--qps", type=float, default=1.2, help="requests/s (1.2)")
    arguments.add_argument("--golden", type=Path, help="folder of runs of the real Vidur")
    options = arguments.parse_args()
    if (options.out is None) == (options.golden is None):
        note("give --out for requests and commands, or --golden for times")
        return 2
    if options.out is not None:
        try:
            workload = requests_of(options.requests, options.qps)
        except ValueError as error:
            note(str(error))
            return 2
        write(workload, options.out)
        for name, command in commands(workload):
            print(f"# {name}\n{command}\n")
        return 0
    folders = golden_folders(options.golden)
    if not folders:
        note(f"{options.golden} holds no run: a run is a folder with config.json and golden.json")
        return 2
    emit([timed(one, 1 if options.smoke else 5) for one in folders[: 2 if options.smoke else None]], options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
