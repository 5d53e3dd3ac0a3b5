"""Small files of every format: the heads of real ones where the project's data is at hand, and made ones."""

import functools
import gzip
import io
import itertools
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cli_calls import TRACES

from traces import Workload
from traces.parquet import write

DATA = TRACES.parent
#: A client of ServeGen: its arrivals, and its lengths.
SERVEGEN = {
    "chunk-0-trace.csv": b"0,2.0,1.0,Gamma,0.5,1.0\n600,1.0,1.0,Weibull,0.7,1.0\n",
    "chunk-0-dataset.json": b'{"0": {"input_tokens": "{100: 0.5, 200: 0.5}", "output_tokens": "{10: 1.0}"}}',
}
_LINES = 24


def _heads(*patterns: str, lines: int = _LINES) -> Iterator[bytes]:
    """The first lines of the project's files that match."""
    for path in sorted(itertools.chain.from_iterable(DATA.glob(pattern) for pattern in patterns)):
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield b"".join(itertools.islice(file, lines))


@functools.cache
def texts_of_traces() -> list[bytes]:
    """Of every format that is a text."""
    found = list(_heads("traces/azure/*.csv.gz", "traces/vidur/*.csv.gz", "traces/sarathi/*.csv.gz"))
    found += [
        b"arrived_at,num_prefill_tokens,num_decode_tokens,request_class,session,think_s\n"
        b"0.0,100,5,0,1,\n1.5,20,7,1,1,0.5\n2.5,1,1,0,-1,\n",
        b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0,3180,8\n",
        b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type,Session ID\n5,m,472,18,490,c,a\n"
        b"45,m,0,0,0,c,b\n",
        b"num_prefill_tokens,num_decode_tokens\n5,6\n7,8\n",
    ]
    return found


@functools.cache
def json_lines() -> list[bytes]:
    """Traces of JSON lines."""
    found = list(_heads("traces/mooncake/*.jsonl.gz", "traces/llmservingsim/*.jsonl.gz", lines=8))
    mooncake = [{"timestamp": 27 * i, "input_length": 700, "output_length": 52, "hash_ids": [0, i]} for i in range(5)]
    bailian = [
        {"chat_id": i, "parent_chat_id": -1, "timestamp": 0.1 * i, "input_length": 9, "output_length": 5}
        for i in range(3)
    ]
    serving = [{"arrival_time_ns": i, "input_toks": 20, "output_toks": 4, "prompt_block_ids": [1]} for i in range(4)]
    return found + ["".join(json.dumps(row) + "\n" for row in rows).encode() for rows in (mooncake, bailian, serving)]


@functools.cache
def sharegpt() -> list[bytes]:
    """Conversations as texts."""
    messages = [{"from": "human", "value": "How are you?"}, {"from": "gpt", "value": "Well."}]
    records = [{"id": "a", "conversations": messages * 2}, {"id": "b", "conversations": messages[::-1]}]
    return [json.dumps(records).encode()]


@functools.cache
def parquet_traces() -> list[bytes]:
    """Our own files, with and without block ids."""
    plain = Workload.from_arrays([0.0, 1.0, 2.0], [5, 6, 7], [1, 2, 3])
    named = Workload.from_arrays(
        [0.0, 1.0], [40, 50], [4, 5], block_ids=[1, 2, 1], block_offsets=[0, 2, 3], block_tokens=16
    )
    return [_written(workload) for workload in (plain, named)]


def _written(workload: Workload) -> bytes:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "a.parquet"
        write(workload, path)
        return path.read_bytes()


@functools.cache
def archives() -> list[bytes]:
    """ServeGen's clients."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in SERVEGEN.items():
            member = tarfile.TarInfo(f"m/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return [file.getvalue()]
