"""A trace read some rows at a time is the one read at once."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from traces import TraceError, Workload, scanning
from traces.objectives import Objective
from traces.parquet import write
from traces.scanning import UnscannableError, scan


def some(n: int = 1000, **more) -> Workload:
    return Workload.generate(num_requests=n, qps=5, seed=2, class_shares=[0.5, 0.5], **more)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(some(), tmp_path / "trace.parquet")
    return tmp_path / "trace.parquet"


@pytest.mark.parametrize("size", [1, 77, 1000, 5000])
def test_chunks_are_the_file(path: Path, size: int):
    stream, whole = scan(path, chunk_requests=size), Workload.read(path)
    for _ in range(2):  # each iteration begins anew
        chunks = list(stream)
        assert [len(chunk) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
        for name in ("arrival_s", "prompt_tokens", "output_tokens", "request_class"):
            joined = np.concatenate([getattr(chunk, name) for chunk in chunks])
            assert joined.tobytes() == getattr(whole, name).tobytes()
    assert len(stream) == len(whole)
    assert stream.provenance == whole.provenance
    assert stream.most_tokens == (whole.prompt_tokens + whole.output_tokens).max()
    assert stream.has_classes


def test_no_more_is_read_at_a_time_than_is_said(path: Path, monkeypatch: pytest.MonkeyPatch):
    heights = []
    collect = pl.LazyFrame.collect

    def noting(self: pl.LazyFrame, **more) -> pl.DataFrame:
        frame = collect(self, **more)
        heights.append(frame.height)
        return frame

    monkeypatch.setattr(pl.LazyFrame, "collect", noting)
    monkeypatch.setattr(scanning, "_ROWS", 100)
    stream = scan(path, chunk_requests=30)
    heights.clear()
    assert sum(len(chunk) for chunk in stream) == 1000
    assert heights == [90] * 11 + [10]


def test_objectives_are_left_out_with_a_note(tmp_path: Path):
    workload = some()
    write(
        Workload.from_arrays(
            workload.arrival_s,
            workload.prompt_tokens,
            workload.output_tokens,
            objectives=[Objective(name="chat", ttft_s=1.0)],
        ),
        tmp_path / "a.parquet",
    )
    (note,) = scan(tmp_path / "a.parquet").notes
    assert "objectives" in note


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ({"session": [3, -1, -1]}, "session"),
        ({"session": [3, -1, 3], "think_s": [None, None, 1.0]}, "session"),
        ({"block_ids": [[1], [], [2]]}, "block_ids"),
        ({"arrival_s": [0.0, 2.0, 1.0]}, "order"),
    ],
)
def test_requests_that_must_be_held_are_refused(tmp_path: Path, columns: dict, word: str):
    base = {"arrival_s": [0.0, 1.0, 2.0], "prompt_tokens": [9, 9, 9], "output_tokens": [4, 4, 4]}
    pl.DataFrame(base | columns).write_parquet(tmp_path / "a.parquet")
    for size in (1, 2, 3):
        with pytest.raises(UnscannableError, match=word) as caught:
            scan(tmp_path / "a.parquet", chunk_requests=size)
        assert "Workload.read" in caught.value.mend


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"prompt_tokens": [9, 0, 9]}, ["rows 2 to 2", "prompt_tokens"]),
        ({"output_tokens": [4, None, 4]}, ["rows 2 to 2", "output_tokens"]),
        ({"prompt_tokens": ["a", "b", "c"]}, ["rows 1 to 1", "prompt_tokens"]),
    ],
)
def test_a_bad_value_is_told_with_its_place(tmp_path: Path, columns: dict, words: list[str]):
    base = {"arrival_s": [0.0, 1.0, 2.0], "prompt_tokens": [9, 9, 9], "output_tokens": [4, 4, 4]}
    pl.DataFrame(base | columns).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(TraceError) as caught:
        scan(tmp_path / "a.parquet", chunk_requests=1)
    assert all(word in str(caught.value) for word in words)


def test_another_file_is_refused(tmp_path: Path, path: Path):
    (tmp_path / "a.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    with pytest.raises(TraceError, match="fastsim traces convert"):
        scan(tmp_path / "a.csv")
    pl.DataFrame({"prompt_tokens": [1]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(TraceError, match="has the columns"):
        scan(tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes(path.read_bytes()[:-20])
    with pytest.raises(TraceError, match="damaged"):
        scan(tmp_path / "c.parquet")
    with pytest.raises(TraceError, match="cannot be read"):
        scan(tmp_path / "none.parquet")
