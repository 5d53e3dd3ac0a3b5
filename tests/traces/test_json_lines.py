import gzip
import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traces import TraceError, read

MOONCAKE = {"timestamp": 27482, "input_length": 600, "output_length": 5, "hash_ids": [3, 2**62 - 1]}
LLMSERVINGSIM = {
    "request_id": "bench-0",
    "input_toks": 40,
    "output_toks": 30,
    "arrival_time_ns": 46_926_808,
    "prompt_block_ids": [1, 2],
}
TIMES = "give a finite number of at least 0"
TOKENS = "give a whole number from 1 to 2147483647"
IDS = f"give a list of whole numbers from 0 to {2**62 - 1}"


def lines(*objects: dict) -> bytes:
    return "".join(json.dumps(cells) + "\n" for cells in objects).encode()


def read_bytes(content: bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.jsonl"
        path.write_bytes(content)
        return read(path)


def test_mooncake():
    late = MOONCAKE | {"timestamp": 28000.5, "hash_ids": [], "priority": "high"}
    workload = read_bytes(b"\xef\xbb\xbf" + lines(late, MOONCAKE).rstrip())
    assert workload.arrival_s.tolist() == [27.482, 28.0005]
    assert (workload.prompt_tokens.tolist(), workload.output_tokens.tolist()) == ([600, 600], [5, 5])
    assert (workload.block_ids.tolist(), workload.block_offsets.tolist()) == ([3, 2**62 - 1], [0, 2, 2])
    assert workload.block_tokens == 512
    assert workload.provenance["format"] == "mooncake"


def test_bailian_has_the_keys_of_mooncake_in_other_units():
    first = {"chat_id": 159, "parent_chat_id": -1, "timestamp": 61.114, "input_length": 20, "output_length": 9}
    first |= {"type": "text", "turn": 1, "hash_ids": [1089, 13148]}
    workload = read_bytes(lines(first, first | {"timestamp": 62, "parent_chat_id": 159, "turn": 2}))
    assert workload.arrival_s.tolist() == [61.114, 62.0]
    assert (workload.block_ids.tolist(), workload.block_tokens) == ([1089, 13148] * 2, 16)
    assert workload.provenance["format"] == "bailian"
    with pytest.raises(
        TraceError, match=r"^hash_ids has 3 elements on line 1 of .*, for a prompt and output of 29 tokens;"
    ):
        read_bytes(lines(first | {"hash_ids": [1, 2, 3]}))


def test_llmservingsim():
    workload = read_bytes(gzip.compress(lines(LLMSERVINGSIM)))
    assert workload.arrival_s.tolist() == [0.046926808]
    assert (workload.prompt_tokens.tolist(), workload.output_tokens.tolist()) == ([40], [30])
    assert (workload.block_ids.tolist(), workload.block_tokens) == ([1, 2], 16)
    assert workload.provenance["format"] == "llmservingsim"


def test_line_ends_and_empty_lines_do_no_harm():
    content = lines(MOONCAKE, MOONCAKE).replace(b"\n", b"\r\n\r\n")
    assert len(read_bytes(content)) == 2
    with pytest.raises(TraceError, match=r"^input_length is 0 on line 5 of "):
        read_bytes(content + lines(MOONCAKE | {"input_length": 0}))


@pytest.mark.parametrize(("cells", "key"), [(MOONCAKE, "hash_ids"), (LLMSERVINGSIM, "prompt_block_ids")])
def test_ids_may_be_missing_from_all_lines(cells, key):
    without = {name: value for name, value in cells.items() if name != key}
    workload = read_bytes(lines(without, without))
    assert (len(workload), workload.block_tokens) == (2, 0)


def test_ids_of_mooncake_files_cover_the_whole_prompt(public_traces):
    """The last one stands for the rest of the prompt, be it less than a block."""
    workload = read(public_traces / "mooncake" / "conversation_trace.jsonl.gz")
    assert len(workload) == 12031
    assert workload.duration_s == pytest.approx(3537, abs=0.5)
    np.testing.assert_array_equal(np.diff(workload.block_offsets), -(-workload.prompt_tokens // 512))


def test_ids_of_measured_runs_cover_full_blocks_of_the_prompt(vllm_runs):
    workload = read(vllm_runs / "RTX4090_Llama-3.1-8B" / "workload.jsonl.gz")
    assert (len(workload), workload.prompt_tokens.sum(), workload.output_tokens.sum()) == (300, 257239, 195753)
    np.testing.assert_array_equal(np.diff(workload.block_offsets), workload.prompt_tokens // 16)


def test_ids_of_both_are_chained(public_traces, vllm_runs):
    """Each stands behind the same one wherever it is, so each is at one place only."""
    for path in (
        public_traces / "mooncake" / "synthetic_trace.jsonl.gz",
        vllm_runs / "RTX4090_Llama-3.1-8B" / "workload.jsonl.gz",
    ):
        workload = read(path)
        before = np.concatenate([[-1], workload.block_ids[:-1]])
        before[workload.block_offsets[:-1][np.diff(workload.block_offsets) > 0]] = -1
        pairs = np.unique(np.column_stack([workload.block_ids, before]), axis=0)
        assert len(pairs) == len(np.unique(workload.block_ids))


@pytest.mark.parametrize(
    ("changes", "field", "problem", "mend"),
    [
        ({"timestamp": -1}, "timestamp", "is -1", TIMES),
        ({"timestamp": "0"}, "timestamp", "is '0'", TIMES),
        ({"timestamp": float("inf")}, "timestamp", "is inf", TIMES),
        ({"timestamp": float("nan")}, "timestamp", "is nan", TIMES),
        ({"timestamp": None}, "timestamp", "is None", TIMES),
        ({"input_length": 0}, "input_length", "is 0", TOKENS),
        ({"input_length": 1.5}, "input_length", "is 1.5", TOKENS),
        ({"input_length": "600"}, "input_length", "is '600'", TOKENS),
        ({"output_length": True}, "output_length", "is True", TOKENS),
        ({"output_length": 2**31}, "output_length", "is 2147483648", TOKENS),
        ({"output_length": 10**30}, "output_length", f"is {10**30}", TOKENS),
        ({"hash_ids": 5}, "hash_ids", "is 5", IDS),
        ({"hash_ids": None}, "hash_ids", "is None", IDS),
        ({"hash_ids": [1, -2]}, "hash_ids", "has the element -2", IDS),
        ({"hash_ids": [1, 2**62]}, "hash_ids", f"has the element {2**62}", IDS),
        ({"hash_ids": [1, 2**64]}, "hash_ids", f"has the element {2**64}", IDS),
        ({"hash_ids": [1, "2"]}, "hash_ids", "has the element '2'", IDS),
        ({"hash_ids": [None]}, "hash_ids", "has the element None", IDS),
        ({"hash_ids": [[1]]}, "hash_ids", "has the element [1]", IDS),
    ],
)
def test_bad_cells(tmp_path, changes, field, problem, mend):
    path = tmp_path / "trace.jsonl"
    path.write_bytes(lines(MOONCAKE, MOONCAKE | changes, MOONCAKE | changes))
    with pytest.raises(TraceError) as caught:
        read(path)
    assert str(caught.value) == f"{field} {problem} on line 2 of {path}; {mend}."
    assert caught.value.field == field


@pytest.mark.parametrize("key", [*LLMSERVINGSIM])
def test_missing_keys(tmp_path, key):
    path = tmp_path / "trace.jsonl"
    path.write_bytes(lines(LLMSERVINGSIM, {name: value for name, value in LLMSERVINGSIM.items() if name != key}))
    if key == "request_id":
        assert len(read(path)) == 2
        return
    with pytest.raises(TraceError, match=rf"^{key} is missing on line 2 of {path}; give a .*\.$"):
        read(path)


def test_more_ids_than_blocks(tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_bytes(lines(LLMSERVINGSIM, LLMSERVINGSIM | {"prompt_block_ids": [1, 2, 3, 4, 5, 6]}))
    with pytest.raises(TraceError) as caught:
        read(path)
    assert str(caught.value) == (
        f"prompt_block_ids has 6 elements on line 2 of {path}, for a prompt and output of 70 tokens; "
        "give at most 5, one per 16 tokens."
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"timestamp": 1', "has '{\"timestamp\": 1' on line 1 where a JSON object is wanted"),
        (lines(MOONCAKE) + b'{"timestamp": 1', "has '{\"timestamp\": 1' on line 2 where a JSON object is wanted"),
        (lines(MOONCAKE) + b"[1, 2]\n", "has '[1, 2]' on line 2 where a JSON object is wanted"),
        (lines(MOONCAKE) + lines(MOONCAKE).strip() * 2, 'has \'{"timestamp": 27482, "input_length"'),
        (
            lines(MOONCAKE | {"other": 0.25}).replace(b"0.25", b"1e999"),
            "cannot be read as JSON lines (error parsing line",
        ),
        (lines({"timestamp": 1, "input_length": 2}), "has the keys 'timestamp,input_length' on line 1"),
    ],
)
def test_bad_lines(content, problem):
    with pytest.raises(TraceError) as caught:
        read_bytes(content)
    assert problem in str(caught.value)
    assert caught.value.field == "path"


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([b"", lines(MOONCAKE), lines(LLMSERVINGSIM)]),
    st.text('{}[]",:0123456789.-eE\n tnu', max_size=40) | st.binary(max_size=40),
)
def test_any_content_loads_or_gives_one_sentence(start, content):
    content = content if isinstance(content, bytes) else content.encode()
    try:
        workload = read_bytes(start + b"{" + content)
    except TraceError as error:
        sentence = str(error)
        assert sentence.endswith(".")
        assert "\n" not in sentence
    else:
        assert len(workload) >= 1
