"""ShareGPT: a JSON list of conversations as texts, which a tokenizer or a rule makes lengths of.

Each record has a list ``conversations`` of messages with ``from`` (human or user; gpt and the names of other models;
system) and ``value``, the text. A turn is an answer to what was said before: its prompt is all messages since the
conversation began, its output the answer. There are no times: all first turns arrive at time 0.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any, Final

import numpy as np

from traces.bounded import parsed_json
from traces.conversations import session_blocks
from traces.csv_lines import NO_ARRIVALS
from traces.errors import TraceError, real_number, shown
from traces.files import NEW_COPY, contents, decompressed, file_error
from traces.workload import Workload

CHARS_PER_TOKEN: Final = 4.0
"""The usual rule of thumb for English text."""
_BLOCK_TOKENS: Final = 512
_PROMPTING: Final = ("human", "user", "system")
_TURNS: Final = ("first", "all")

Tokenizer = Callable[[str], Any]


def read_sharegpt(
    path: str | os.PathLike[str],
    tokenizer: Tokenizer | None = None,
    chars_per_token: float = CHARS_PER_TOKEN,
    turns: str = "first",
) -> Workload:
    """Read a file of ShareGPT conversations.

    Args:
        path: the JSON file, plain or gzip.
        tokenizer: gives the number of tokens of a text, or the tokens themselves, such as ``tokenizer.encode`` of a
            Hugging Face tokenizer; None counts characters.
        chars_per_token: characters of a token without a tokenizer, 0.1 to 100; what is left of a message is a token.
        turns: "first" takes the first turn of each conversation, as serving benchmarks do; "all" takes each answer as
            a turn, with sessions, think times of 0 and block ids.

    Raises:
        TraceError: the file or an option is bad.
    """
    raw = contents(path)
    return parse(path, raw, decompressed(path, raw), tokenizer, chars_per_token, turns)


def parse(
    path: str | os.PathLike[str],
    raw: bytes,
    text: bytes,
    tokenizer: Tokenizer | None = None,
    chars_per_token: float = CHARS_PER_TOKEN,
    turns: str = "first",
) -> Workload:
    """As `read_sharegpt`, of the bytes of a file and the text in them."""
    if turns not in _TURNS:
        raise TraceError("turns", turns, f"is {shown(turns)}", f"choose one of {', '.join(_TURNS)}")
    chars_per_token = real_number("chars_per_token", chars_per_token, 0.1, 100)

    def count(message: str) -> int:
        return math.ceil(len(message) / chars_per_token) if tokenizer is None else _counted(tokenizer(message))

    records = _records(path, text)
    rows: list[tuple[int, int, int]] = []
    num_used = 0
    for index, record in enumerate(records):
        found = list(_turns(_messages(path, index, record), count))
        rows += [(num_used, prompt, output) for prompt, output in (found[:1] if turns == "first" else found)]
        num_used += bool(found)
    if not rows:
        raise file_error(path, "holds no conversation with a prompt and an answer", NEW_COPY)
    rule = f"{chars_per_token:g} characters are a token" if tokenizer is None else "tokens of the given tokenizer"
    notes: tuple[str, ...] = (NO_ARRIVALS, f"the file has texts, not lengths: {rule}")
    if num_used < len(records):
        notes += (f"{len(records) - num_used} of {len(records)} conversations have no answered prompt: left out",)
    provenance = {
        "file": Path(path).name,
        "format": "sharegpt",
        "sha256": hashlib.sha256(raw).hexdigest(),
        "tokens": rule,
        "turns": turns,
    }
    session, prompt_tokens, output_tokens = np.array(rows, np.int64).T
    more: dict[str, Any] = {}
    if turns == "all":
        firsts = np.flatnonzero(np.diff(session, prepend=-1))
        think_s = np.zeros(len(session))
        think_s[firsts] = np.nan
        blocks = session_blocks(session, firsts, prompt_tokens + output_tokens, _BLOCK_TOKENS)
        more = {"session": session, "think_s": think_s, "blocks": blocks}
    return Workload(np.zeros(len(session)), prompt_tokens, output_tokens, provenance, notes, **more)


def _records(path: str | os.PathLike[str], text: bytes) -> list[Any]:
    """The conversations of a file."""
    try:
        records = parsed_json(text)
    except ValueError as error:
        raise file_error(path, f"cannot be read as JSON ({error})", NEW_COPY) from error
    if not isinstance(records, list) or not records:
        raise file_error(path, "is no list of conversations", "give a file of ShareGPT's form")
    return records


def _messages(path: str | os.PathLike[str], index: int, record: Any) -> list[tuple[str, str]]:
    """Who said what in a conversation."""
    where = f"in conversation {index + 1} of {path}"
    messages = record.get("conversations") if isinstance(record, dict) else None
    if not isinstance(messages, list):
        mend = 'give a list of objects with "from" and "value"'
        raise TraceError("conversations", messages, f"is {shown(messages)} {where}", mend)
    for message in messages:
        for key in ("from", "value"):
            text = message.get(key) if isinstance(message, dict) else None
            if not isinstance(text, str):
                raise TraceError(key, text, f"is {shown(text)} {where}", "give a text")
    return [(message["from"], message["value"]) for message in messages]


def _turns(messages: list[tuple[str, str]], count: Callable[[str], int]) -> Iterator[tuple[int, int]]:
    """Prompt and output tokens of each answer; what a model says unasked is no turn."""
    said, asked = 0, False
    for speaker, message in messages:
        tokens = count(message)
        if speaker not in _PROMPTING and asked and tokens and said:
            yield said, tokens
        asked = speaker in ("human", "user") or (asked and speaker == "system")
        said += tokens


def _counted(result: Any) -> int:
    """The number of tokens that a tokenizer gave."""
    if isinstance(result, Mapping) and "input_ids" in result:
        result = result["input_ids"]
    if isinstance(result, Sized):
        return len(result)
    if isinstance(result, int | np.integer) and result >= 0:
        return int(result)
    mend = "give a function from a text to its number of tokens, or to a list of them"
    raise TraceError("tokenizer", result, f"gave {shown(result)}", mend)
