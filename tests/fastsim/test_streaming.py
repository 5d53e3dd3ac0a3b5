"""A stream simulated segment by segment is the workload that is held in memory, to the last bit."""

import json

import polars as pl
import pytest
from limits import largest_file
from plain_tables import plain_tables

import fastsim
from fastsim import ConfigError, SimulationConfig, Workload, streaming
from fastsim.kernel.jit import DISABLED
from traces.parquet import write
from traces.scanning import scan

N = 120 if DISABLED else 2000
#: Long enough to fill the KV memory now and then, so that requests wait and are preempted.
DRAWN = {
    "num_requests": N,
    "qps": 16.0,
    "lengths": "uniform",
    "length_options": {"prompt_min": 1, "prompt_max": 200, "output_min": 1, "output_max": 100},
    "max_total_tokens": 280,
}
LIMITS = {"max_num_seqs": 16, "max_num_batched_tokens": 128}
SERVING = {"max_model_len": 280, "num_kv_blocks": 1000, "scheduler_options": LIMITS}
NO_FRONT_END = {"ingress_s": 0.0, "ingress_s_per_token": 0.0, "egress_s": 0.0}
#: What of a summary is a sum of floats, or a quantile from another kind of histogram: compared on its own.
LATENCIES = ("ttft_s", "tpot_s", "tbt_s", "e2e_s", "e2e_normalized_s", "scheduling_delay_s")

CASES = {
    "vllm_v1": {},
    "short of memory": {"num_kv_blocks": 40},
    "swapping": {"num_kv_blocks": 40, "scheduler_options": LIMITS | {"preemption_mode": "swap"}},
    "by class": {"queue": "priority", "num_kv_blocks": 40},
    "by predicted length": {"queue": "sjf", "queue_options": {"prediction_error": 0.3}, "num_kv_blocks": 40},
    "random": {"replicas": 3, "router": "random"},
    "power of two": {"replicas": 3, "router": "power_of_two"},
    "least outstanding": {"replicas": 2, "router": "least_outstanding"},
    "ahead": {"engine": "vllm-head", "num_kv_blocks": 40, "engine_options": NO_FRONT_END},
    "stages": {"pipeline_parallel": 2, "num_kv_blocks": 60},
    "engines": {"data_parallel": 2},
    "sglang": {"scheduler": "sglang", "scheduler_options": {"max_num_seqs": 16}},
    "sglang in stages": {"scheduler": "sglang", "scheduler_options": {"max_num_seqs": 16}, "pipeline_parallel": 2},
    "cached": {"num_kv_blocks": 40, "scheduler_options": LIMITS | {"enable_prefix_caching": True}},
    "trtllm": {"scheduler": "trtllm", "scheduler_options": LIMITS | {"max_num_batched_tokens": 512}},
    "lightllm": {"scheduler": "lightllm", "block_size": 1, "num_kv_blocks": 3000, "scheduler_options": {}},
    "sarathi": {"scheduler": "sarathi", "scheduler_options": {"max_num_seqs": 16, "chunk_size": 128}},
}


def both(tmp_path, chunk_requests: int = 3, **fields):
    """The result in memory, and that of a stream with the rows that it wrote."""
    config = SimulationConfig(**SERVING | fields)
    tables = plain_tables(config, 0.01, 1e-5)
    drawn = DRAWN | ({"class_shares": [0.3, 0.7]} if config.queue == "priority" else {})
    whole = fastsim.simulate(config, Workload.generate(**drawn), tables)
    path = tmp_path / "requests.parquet"
    stream = Workload.stream(chunk_requests=chunk_requests, **drawn)
    return whole, fastsim.simulate(config, stream, tables, requests_file=path), pl.read_parquet(path)


@pytest.mark.parametrize("fields", CASES.values(), ids=CASES)
def test_every_row_is_that_of_the_run_in_memory(tmp_path, monkeypatch, fields):
    monkeypatch.setattr(streaming, "_LEAST_PART", 0.0)  # the table moves after every chunk
    whole, streamed, rows = both(tmp_path, **fields)
    assert rows.equals(whole.requests)
    assert streamed.requests is None
    for name in ("replicas", "hardware", "estimates", "workload", "prefix_cache"):
        assert streamed.summary[name] == whole.summary[name], name
    for name in whole.summary["metrics"].keys() - set(LATENCIES):
        assert streamed.summary["metrics"][name] == whole.summary["metrics"][name], name


def test_a_file_is_read_as_if_it_were_held(tmp_path):
    config, asked = SimulationConfig(**SERVING | {"num_kv_blocks": 40}), DRAWN | {"class_shares": [0.5, 0.5]}
    write(Workload.generate(**asked), tmp_path / "trace.parquet")
    tables = plain_tables(config, 0.01, 1e-5)
    whole = fastsim.simulate(config, Workload.read(tmp_path / "trace.parquet"), tables)
    stream = scan(tmp_path / "trace.parquet", chunk_requests=7)
    streamed = fastsim.simulate(config, stream, tables, requests_file=tmp_path / "rows.parquet")
    assert pl.read_parquet(tmp_path / "rows.parquet").equals(whole.requests)
    assert streamed.summary["workload"] == whole.summary["workload"]


@pytest.mark.parametrize("chunk_requests", [1, N, 3 * N])
def test_the_size_of_chunks_does_not_show(tmp_path, chunk_requests):
    whole, streamed, rows = both(tmp_path, chunk_requests, num_kv_blocks=40)
    assert rows.equals(whole.requests)
    assert streamed.summary["simulation"]["completed"] == N


def test_latencies_are_those_of_a_run_without_rows(tmp_path):
    # Which takes them from the same histograms, in which only the order of additions differs.
    slo = {"ttft_s": 1.0, "tpot_s": 0.02, "tbt_p99_s": 0.1, "1": {"ttft_s": 0.3, "e2e_s": 2.0}}
    whole, streamed, _ = both(tmp_path, keep_requests=False, queue="priority", num_kv_blocks=40, slo=slo)
    assert streamed.summary["slo"] == whole.summary["slo"]
    assert 0 < streamed.summary["slo"]["attainment"] < 1
    assert streamed.summary.keys() == whole.summary.keys()
    for name in LATENCIES:
        assert streamed.summary["metrics"][name] == pytest.approx(whole.summary["metrics"][name], rel=1e-12)
    assert streamed.summary["distributions"] == whole.summary["distributions"]
    assert streamed.summary["classes"].keys() == {"0", "1"}
    for number, section in whole.summary["classes"].items():
        for name, value in section.items():
            assert streamed.summary["classes"][number][name] == pytest.approx(value, rel=1e-12)
    for name in ("requests", "completed", "iterations", "makespan_s", "quantiles"):
        assert streamed.summary["simulation"][name] == whole.summary["simulation"][name]
    assert json.dumps(streamed.summary)


def test_what_is_held_is_what_waits_and_runs(monkeypatch):
    from fastsim.kernel import prepare_segments

    sizes = []
    append = prepare_segments.append_requests

    def noting(state, new, buffer):
        state, buffer = append(state, new, buffer)
        sizes.append(len(buffer))
        return state, buffer

    monkeypatch.setattr(prepare_segments, "append_requests", noting)
    config = SimulationConfig(**SERVING)
    drawn = DRAWN | {"num_requests": 20 * N, "qps": 1.0}
    fastsim.simulate(config, Workload.stream(chunk_requests=N // 5, **drawn), plain_tables(config, 0.01, 1e-5))
    assert len(sizes) == 100
    assert max(sizes) < N


def test_a_result_leaves_the_rows_of_its_stream(tmp_path):
    _, streamed, rows = both(tmp_path)
    streamed.write(tmp_path)
    assert pl.read_parquet(tmp_path / "requests.parquet").equals(rows)
    assert json.loads((tmp_path / "summary.json").read_text()) == streamed.summary
    streamed.write(tmp_path / "elsewhere")
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == {"summary.json", "config.toml"}


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"record_metrics": True}, "record_metrics"),
        ({"record_batches": True}, "record_batches"),
        ({"parity": "vidur", "scheduler": "orca", "scheduler_options": {}}, "parity"),
        ({"warmup": "10s"}, "warmup"),
        ({"client": "closed", "client_options": {"concurrency": 4}}, "client"),
        ({"engine": "vllm-0.19"}, "engine.ingress_s"),
    ],
)
def test_what_needs_all_requests_is_refused(fields, name):
    config = SimulationConfig(**SERVING | fields)
    with pytest.raises(ConfigError, match=r"stream of requests.*Workload\.generate") as caught:
        fastsim.simulate(config, Workload.stream(**DRAWN))
    assert caught.value.field.startswith(name)


@pytest.mark.parametrize("argument", [{"intervals": True}, {"confidence": True}, {"batch_window": (0.0, 1.0)}])
def test_arguments_that_need_all_requests_are_refused(argument):
    with pytest.raises(ConfigError, match="stream of requests") as caught:
        fastsim.simulate(SimulationConfig(**SERVING), Workload.stream(**DRAWN), **argument)
    assert caught.value.field == next(iter(argument))


def test_rows_of_a_workload_in_memory_are_not_asked_for(tmp_path):
    with pytest.raises(ConfigError, match=r"requests_file .*of a stream only"):
        fastsim.simulate(SimulationConfig(**SERVING), Workload.generate(**DRAWN), requests_file=tmp_path / "x")


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match=r"requests_file .*is a directory"):
        fastsim.simulate(SimulationConfig(**SERVING), Workload.stream(**DRAWN), requests_file=tmp_path)


def test_a_request_that_is_too_long_is_named_by_its_number_in_the_stream(tmp_path):
    config = SimulationConfig(**SERVING | {"max_model_len": 275})
    drawn = Workload.generate(**DRAWN)
    lengths = drawn.prompt_tokens + drawn.output_tokens
    first = int((lengths > 275).argmax())
    assert first > 10
    path = tmp_path / "requests.parquet"
    path.write_bytes(b"an earlier one")
    with pytest.raises(ConfigError, match=rf"request {first} \("):
        fastsim.simulate(
            config, Workload.stream(chunk_requests=10, **DRAWN), plain_tables(config, 0.01), requests_file=path
        )
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(path.name, b"an earlier one")]


def test_a_file_that_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path):
    config = SimulationConfig(**SERVING)
    stream = Workload.stream(chunk_requests=3, **DRAWN)
    with (
        largest_file(1000),
        pytest.raises(ConfigError, match=r"requests_file .*cannot be written \(File too large\)"),
    ):
        fastsim.simulate(config, stream, plain_tables(config, 0.01), requests_file=tmp_path / "rows")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_summary_does_not_stand_beside_other_rows(tmp_path):
    both(tmp_path)[1].write(tmp_path)
    assert (tmp_path / "summary.json").exists()
    both(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"requests.parquet", "config.toml"}
