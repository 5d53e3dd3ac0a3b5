"""What tests/faults kills: each function makes a `Victim` that works in a directory."""

import contextlib
import functools
import io
import json
import os
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from killing import Victim


def tables(directory: Path) -> Victim:
    """Iteration tables are built and kept."""
    from roofline_estimators import RooflineEstimators, build_small

    from estimators.cache import cache_directory
    from fastsim.doctor_caches import tables as state

    def in_cache(*, known: object = None) -> object:
        os.environ["XDG_CACHE_HOME"] = str(directory)
        return build_small(known, cache=True)

    def check() -> None:
        os.environ["XDG_CACHE_HOME"] = str(directory)
        assert state()["damaged, to be built again"] == []

    def finish() -> None:
        warnings.simplefilter("error")
        assert in_cache().hash == build_small(cache=False).hash
        known = RooflineEstimators()
        assert in_cache(known=known).hash == build_small(cache=False).hash
        assert not known.calls
        assert len(list(cache_directory().glob("*.json"))) == 1

    return Victim(in_cache, check, finish)


def keeping(directory: Path) -> Victim:
    """The same, killed only while tables are written."""
    victim = tables(directory)
    victim.begin = ("estimators.cache", "save_tables")
    return victim


def operators(directory: Path) -> Victim:
    """Rows of operators are written to the cache."""
    from estimators.files import replace_file
    from estimators.operator_rows import content_of, kept

    path, values = directory / "x.operators", np.random.default_rng(0).random(1000)

    def work() -> None:
        replace_file(path, lambda file: file.write(content_of(values)))

    def check() -> None:
        assert not path.exists() or np.array_equal(kept(path), values)

    def finish() -> None:
        work()
        assert np.array_equal(kept(path), values)

    return Victim(work, check, finish)


def run(directory: Path) -> Victim:
    """``fastsim run --out`` over what an earlier run has left."""
    out = directory / "out"

    def simulate(seed: int) -> None:
        from fastsim.cli import main

        words = ["--requests", "20", "--seed", str(seed), "--record-batches", "--out", str(out)]
        words += ["--lengths", "fixed", "--lengths.prompt", "90", "--lengths.output", "3"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            assert main(["run", *words]) == 0

    def work() -> None:
        simulate(2)

    def check() -> None:
        import polars as pl

        for path in out.glob("*.parquet"):
            assert pl.read_parquet(path).height > 0
        if (out / "summary.json").exists():
            summary = json.loads((out / "summary.json").read_text())
            assert f"seed = {summary['config']['seed']}\n" in (out / "config.toml").read_text()
            mean_s = pl.read_parquet(out / "requests.parquet")["e2e_s"].mean()
            assert abs(mean_s - summary["metrics"]["e2e_s"]["mean"]) < 1e-9

    def finish() -> None:
        work()
        check()
        assert json.loads((out / "summary.json").read_text())["config"]["seed"] == 2

    return Victim(work, check, finish, lambda: simulate(1), ("estimators.files", "replace_files"))


def search(directory: Path) -> Victim:
    """A search that goes on with its journal after each kill."""
    from search_cases import SPACE, Oracle, search_workload

    from fastsim.searching.runner import run_search

    made = functools.partial(Oracle, lambda task: 1.0 + zlib.crc32(repr(task.key).encode()) % 99)
    about = functools.partial(run_search, SPACE, search_workload(20), executor=made)

    def work() -> object:
        return about(directory=directory, resume=True)

    def check() -> None:
        import polars as pl

        if (directory / "search.json").exists():
            assert json.loads((directory / "search.json").read_text())["best"]
            assert pl.read_parquet(directory / "configurations.parquet").height == 8
            assert pl.read_parquet(directory / "probes.parquet").height == 16

    def finish() -> None:
        import polars as pl
        from polars.testing import assert_frame_equal

        assert_frame_equal(work().frame, about().frame)
        assert_frame_equal(pl.read_parquet(directory / "configurations.parquet"), about().frame)

    return Victim(work, check, finish, begin=("fastsim.searching.runner", "Journal"), kills=20, in_a_row=4)


def profile(directory: Path) -> Victim:
    """A profile that keeps what it has measured."""
    from estimators.profiler.points import Point
    from estimators.profiler.record import Record
    from estimators.profiler.timing import Timing

    points = [Point("gemm", "bf16", (m, 64, 64)) for m in range(1, 13)]

    def timing(point: Point) -> Timing:
        return Timing(point.values[0] * 1e-6, 0.01, 10, "kernel", 1e-3)

    def record() -> Record:
        return Record(directory / "points.jsonl", {"device": "toy"}, {})

    def work() -> Record:
        kept = record()
        for start in range(0, len(points), 3):
            missing = [point for point in points[start : start + 3] if kept.is_open(point)]
            if missing:
                kept.add({point: timing(point) for point in missing}, 1.0)
        return kept

    def check() -> None:
        kept = record()
        assert list(kept.timings) == points[: len(kept.timings)]
        assert all(kept.timings[point] == [timing(point)] for point in kept.timings)

    def finish() -> None:
        assert work().timings == {point: [timing(point)] for point in points}
        assert record().timings == {point: [timing(point)] for point in points}

    return Victim(work, check, finish, kills=20, in_a_row=3)


def trace(directory: Path) -> Victim:
    """A trace that is converted, over an older one."""
    import traces

    path = directory / "trace.parquet"
    old, new = ({"arrival_s": [0.0, s], "prompt_tokens": [9, 9], "output_tokens": [2, 2]} for s in (1.0, 2.0))

    def write(columns: Mapping[str, list[float]]) -> None:
        traces.write(traces.Workload.from_arrays(**columns), path)

    def prepare() -> None:
        directory.mkdir(parents=True)
        write(old)

    def work() -> None:
        write(new)

    def check() -> None:
        assert list(traces.read(path).arrival_s) in (old["arrival_s"], new["arrival_s"])

    def finish() -> None:
        work()
        assert list(traces.read(path).arrival_s) == new["arrival_s"]

    return Victim(work, check, finish, prepare, ("traces.parquet", "replace_file"))


def stream(directory: Path) -> Victim:
    """The rows of a stream of requests are written while they complete, over those of an earlier one."""
    import fastsim

    path, config = directory / "requests.parquet", fastsim.SimulationConfig(engine="ideal", max_model_len=64)

    def drawn(seed: int) -> dict[str, object]:
        lengths = {"lengths": "fixed", "length_options": {"prompt": 9, "output": 2}, "max_total_tokens": 64}
        return {"num_requests": 40, "qps": 50.0, "seed": seed} | lengths

    def simulate(seed: int) -> None:
        fastsim.simulate(config, fastsim.Workload.stream(chunk_requests=8, **drawn(seed)), requests_file=path)

    def check(*seeds: int) -> None:
        import polars as pl

        found = pl.read_parquet(path)
        wholes = [fastsim.simulate(config, fastsim.Workload.generate(**drawn(seed))).requests for seed in seeds]
        assert any(found.equals(whole.select(found.columns)) for whole in wholes)

    def prepare() -> None:
        simulate(1)

    def work() -> None:
        simulate(2)

    def finish() -> None:
        work()
        check(2)

    begin = ("fastsim.streaming", "RequestsFile")
    return Victim(work, lambda: check(1, 2), finish, prepare, begin, kills=6)
