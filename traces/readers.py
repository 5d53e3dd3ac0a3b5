"""Readers of public trace files.

Known formats, recognised by how they begin; plain or gzip, whatever the file is called. ``provenance["format"]`` of the
workload says which it was:

- Azure LLM inference trace (2023, and the one-week files of 2024): ``TIMESTAMP,ContextTokens,GeneratedTokens``. Times
  in UTC with up to nine decimals; arrivals count from the earliest.
- Vidur trace: ``arrived_at,num_prefill_tokens,num_decode_tokens``. ``arrived_at`` is the arrival in seconds, taken as
  it is.
- Mooncake trace, JSON lines with the keys ``timestamp`` (milliseconds, taken as it is), ``input_length`` and
  ``output_length``, and ``hash_ids``: one id per 512 tokens of the prompt. The last one stands for what the prompt has
  left, mostly less than a block.
- Qwen-Bailian trace, JSON lines with Mooncake's keys and ``parent_chat_id``: times in seconds, an id per 16 tokens.
- LLMServingSim workload, JSON lines with the keys ``arrival_time_ns`` (taken as it is), ``input_toks`` and
  ``output_toks``, and ``prompt_block_ids``: one id per 16 tokens, of the full blocks of the prompt only.

- BurstGPT: ``Timestamp`` (seconds, counted from the earliest), ``Request tokens``, ``Response tokens`` and, in
  BurstGPT_3, ``Session ID``. Requests without tokens are failures there: they are left out, and a note counts them.
- Lengths of Sarathi-Serve and Vidur, without arrivals: ``num_prefill_tokens,num_decode_tokens``. All requests arrive at
  time 0; `traces.with_arrivals` draws arrivals.
- ShareGPT: a JSON list of conversations as texts. Lengths are counted by a rule, and all requests arrive at time 0; see
  `traces.sharegpt`, whose `read_sharegpt` takes a tokenizer.
- ServeGen: a folder or an archive of clients, of which requests are drawn with seed 0; see `traces.servegen`.
- Our own Parquet files; see `traces.parquet`.

The ids of JSON lines are chained: they stand for all text from the first token on, so each is always at the same place,
and they become the block ids of the workload. A file may have none.

Azure's and Vidur's may have the columns ``request_class`` (0 to 127, smaller is more important), ``session`` (the
number of a conversation, or -1 for none) and ``think_s`` (seconds from the completion of the request before it in its
session, or empty); see `traces.workload.Workload`.

Columns and keys may come in any order and others are ignored. Files load whole or not at all: a request without prompt
or output tokens is refused like any other bad cell. The published Azure files of 2023 hold none (fewest: 2 and 6), and
dropping requests would change the load.
"""

import codecs
import hashlib
import os
from pathlib import Path

from traces import csv_lines, json_lines, parquet, servegen, servegen_files, sharegpt
from traces.files import contents, decompressed
from traces.workload import Workload


def read(path: str | os.PathLike[str]) -> Workload:
    """Read a trace file.

    Args:
        path: a trace file in one of the formats above.

    Returns:
        All requests of the file, in order of arrival.

    Raises:
        TraceError: the file cannot be read, its first line is not known, or a cell is bad: one sentence with the file,
            and with line (the first is line 1) and column or key of the first bad cell.
    """
    if os.path.isdir(path) and any(Path(path).glob("chunk-*-trace.csv")):
        return servegen.draw_some(path)
    raw = contents(path)
    provenance = {"file": Path(path).name, "format": "fastsim", "sha256": hashlib.sha256(raw).hexdigest()}
    if raw.startswith(parquet.MAGIC):
        columns = parquet.parse(path, raw)
        if origin := columns.pop("provenance"):
            provenance["of"] = origin
        return Workload.from_arrays(**columns, provenance=provenance)
    text = decompressed(path, raw)
    if servegen_files.is_archive(text):
        return servegen.draw_some(path)
    text = text.removeprefix(codecs.BOM_UTF8)
    if text[:64].lstrip().startswith(b"["):
        return sharegpt.parse(path, raw, text)
    parse = json_lines.parse if text.startswith(b"{") else csv_lines.parse
    provenance["format"], columns = parse(path, text)
    return Workload.from_arrays(**columns, provenance=provenance)
