"""Folders of measured runs, of a toy model on a toy GPU, as bench/fidelity.py reads them."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from layerwise_files import write_profile

REPOSITORY = Path(__file__).resolve().parents[1]
#: config.json of the toy model; every one of its layers takes what `layerwise_files` says.
TOY = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 256,
    "num_hidden_layers": 20,  # so that a batch takes longer than its CPU time
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "vocab_size": 1024,
    "max_position_embeddings": 256,
}
#: Where the clocks of a record begin.
WALL_S, MONOTONIC_S = 1_700_000_000.0, 4_000.0


def write_profiles(root: Path, tp: int = 1) -> Path:
    """Profiles of the toy model on the GPU ``TOYGPU``, and its configuration."""
    write_profile(root / "llmservingsim" / "TOYGPU" / "lab" / "toy", tp=tp)
    (root / "llmservingsim" / "toy.json").write_text(json.dumps(TOY))
    return root


def write_run(folder: Path, meta: Mapping[str, Any], requests: Sequence[Mapping[str, Any]]) -> Path:
    """Write a run; times of requests are seconds from its start, and their block ids go into the workload."""
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps({"model": "lab/toy", **meta}))
    rows, lines = [], []
    for i, request in enumerate(requests):
        sizes = {"request_id": f"r{i}", **{name: request[name] for name in ("input_toks", "output_toks")}}
        stamps = {
            name: None if request[key] is None else MONOTONIC_S + request[key]
            for name, key in (
                ("queued_ts", "queued_s"),
                ("scheduled_ts", "scheduled_s"),
                ("first_token_ts", "first_s"),
                ("last_token_ts", "last_s"),
            )
        }
        rows.append({**sizes, "arrival_time": WALL_S + request["arrival_s"], **stamps})
        lines.append({**sizes, "arrival_time_ns": 0, "prompt_block_ids": request.get("blocks")})
    (folder / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "workload.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def bench(script: str, *words: object) -> tuple[int, dict[str, Any] | None, str]:
    """Exit code, the object that it printed, and what it said beside."""
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "bench" / script), *map(str, words), "--json"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def refusal(script: str, *words: object) -> str:
    """The one sentence in which a bench refuses what it is given."""
    code, printed, said = bench(script, *words)
    assert (code, printed, said.count("\n")) == (2, None, 1)
    return said


def refusal_of_table(script: str, path: Path, text: str | None) -> str:
    """That of a file with such a text, or of none."""
    if text is not None:
        path.write_text(text)
    return refusal(script, path)
