"""Readers of public trace files.

Known formats, recognised by their first line; plain or gzip, whatever the file is called:

- Azure LLM inference trace (2023, and the one-week files of 2024): ``TIMESTAMP,ContextTokens,GeneratedTokens``. Times
  in UTC with up to nine decimals; arrivals count from the earliest.
- Vidur trace: ``arrived_at,num_prefill_tokens,num_decode_tokens``. ``arrived_at`` is the arrival in seconds, taken as
  it is.
- Mooncake trace, JSON lines with the keys ``timestamp`` (milliseconds, taken as it is), ``input_length`` and
  ``output_length``, and ``hash_ids``: one id per 512 tokens of the prompt. The last one stands for what the prompt has
  left, mostly less than a block.
- LLMServingSim workload, JSON lines with the keys ``arrival_time_ns`` (taken as it is), ``input_toks`` and
  ``output_toks``, and ``prompt_block_ids``: one id per 16 tokens, of the full blocks of the prompt only.

The ids of both are chained: they stand for all text from the first token on, so each is always at the same place, and
they become the block ids of the workload. A file may have none.

The first two may have the columns ``request_class`` (0 to 127, smaller is more important), ``session`` (the number of a
conversation, or -1 for none) and ``think_s`` (seconds from the completion of the request before it in its session, or
empty); see `traces.workload.Workload`.

Columns and keys may come in any order and others are ignored. Files load whole or not at all: a request without prompt
or output tokens is refused like any other bad cell. The published Azure files of 2023 hold none (fewest: 2 and 6), and
dropping requests would change the load.
"""

import codecs
import hashlib
import os
from pathlib import Path

from traces import csv_lines, json_lines
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
    raw = contents(path)
    text = decompressed(path, raw).removeprefix(codecs.BOM_UTF8)
    parse = json_lines.parse if text.startswith(b"{") else csv_lines.parse
    name, columns = parse(path, text)
    provenance = {"file": Path(path).name, "format": name, "sha256": hashlib.sha256(raw).hexdigest()}
    return Workload.from_arrays(**columns, provenance=provenance)
