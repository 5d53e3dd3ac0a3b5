import numpy as np
import polars as pl
import pytest

from traces import Objective, TraceError, Workload, generate, read, write

OBJECTIVES = (Objective("chat", ttft_s=0.5, tpot_s=0.05), Objective("batch", e2e_s=60))


def workloads():
    yield generate(num_requests=50, qps=2, class_shares=(0.3, 0.7))
    yield generate(num_requests=50, qps=2, conversations="geometric", conversation_options={"turns": 3, "think_s": 5})
    yield Workload.from_arrays(
        [0, 1, 2], [40, 5, 9], [1, 2, 3], block_ids=[[7, 2**62 - 1], [], [7]], block_tokens=32, notes=("a note",)
    )


@pytest.mark.parametrize("workload", list(workloads()), ids=["classes", "conversations", "blocks"])
def test_what_is_written_is_read_again(tmp_path, workload):
    path = tmp_path / "trace.parquet"
    write(workload, path)
    back = read(path)
    assert back.hash == workload.hash
    assert back.notes == workload.notes
    assert back.provenance["format"] == "fastsim"
    assert back.provenance.get("of", {}) == workload.provenance


def test_objectives_are_kept(tmp_path):
    path = tmp_path / "trace.parquet"
    write(Workload.from_arrays([0, 1], [1, 1], [1, 1], request_class=[0, 1], objectives=OBJECTIVES), path)
    assert read(path).objectives == OBJECTIVES


def test_public_traces_survive(tmp_path, public_traces):
    workload = read(public_traces / "mooncake" / "conversation_trace.jsonl.gz")
    write(workload, tmp_path / "trace.parquet")
    assert read(tmp_path / "trace.parquet").hash == workload.hash


def test_tables_of_others_need_three_columns_only(tmp_path):
    path = tmp_path / "trace.parquet"
    pl.DataFrame(
        {"arrival_s": [1, 0], "prompt_tokens": [5, 6], "output_tokens": [7, 8], "x": ["a", "b"]}
    ).write_parquet(path)
    workload = read(path)
    assert workload.prompt_tokens.tolist() == [6, 5]
    assert "of" not in workload.provenance


COLUMNS = {"arrival_s": [0.0], "prompt_tokens": [5], "output_tokens": [7]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arrival_s": None}, "which has the columns 'prompt_tokens,output_tokens'; give a file with arrival_s,"),
        ({"arrival_s": ["x"]}, "arrival_s is a column of String in "),
        ({"prompt_tokens": [0]}, "prompt_tokens is 0 at index 0"),
        ({"output_tokens": pl.Series([None], dtype=pl.Int64)}, "output_tokens is empty in row 1 of "),
        ({"request_class": [200]}, "request_class is 200 at index 0"),
        ({"block_ids": [5]}, "block_ids is a column of Int64 in "),
        ({"block_ids": [[5]]}, "block_tokens is None"),
    ],
)
def test_bad_tables(tmp_path, change, words):
    path = tmp_path / "trace.parquet"
    columns = {name: column for name, column in (COLUMNS | change).items() if column is not None}
    pl.DataFrame(columns).write_parquet(path)
    with pytest.raises(TraceError) as caught:
        read(path)
    assert words in str(caught.value)


def test_damaged_and_empty_files(tmp_path):
    path = tmp_path / "trace.parquet"
    write(generate(num_requests=50, qps=2), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(TraceError, match=r"is a damaged Parquet file .*; fetch the file again\.$"):
        read(path)
    pl.DataFrame(COLUMNS).clear().write_parquet(path)
    with pytest.raises(TraceError, match=r"holds no requests; give another file\.$"):
        read(path)
    with pytest.raises(TraceError, match="cannot be written"):
        write(generate(num_requests=5, qps=2), tmp_path / "none" / "trace.parquet")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Objective("", 1), "name is ''; give the class a name."),
        (lambda: Objective("x", ttft_s=0), "ttft_s is 0; give a number from 1e-09 to 1e+09."),
        (
            lambda: Workload.from_arrays([0], [1], [1], request_class=[2], objectives=OBJECTIVES),
            "has 2 elements for 3 classes; give an Objective for each class, the most important first, or none.",
        ),
        (
            lambda: Workload.from_arrays([0], [1], [1], objectives=OBJECTIVES[:1] * 2),
            "objectives has the names chat, chat; give each class a name of its own.",
        ),
        (lambda: Workload.from_arrays([0], [1], [1], objectives="x"), "objectives is 'x'; give an Objective"),
    ],
)
def test_bad_objectives(make, words):
    with pytest.raises(TraceError) as caught:
        make()
    assert words in str(caught.value)


def test_objectives_change_no_hash():
    plain, promised = (
        Workload.from_arrays([0, 1], [1, 1], [1, 1], objectives=objectives) for objectives in ((), OBJECTIVES)
    )
    assert plain.hash == promised.hash
    assert promised.head(1).objectives == promised.repeated(2).objectives == OBJECTIVES
    assert np.all(promised.request_class == 0)
