import io
import json
import tarfile

import numpy as np
import pytest

from traces import ServeGenPool, TraceError, read

TRACE = "0,0,0,,0,0\n600,0.5,2.0,Gamma,0.25,3.0\n1200,1.0,1.0,Weibull,1.0,0.5\n"
HISTOGRAMS = {"input_tokens": "{45: 0.25, 46: 0.75}", "output_tokens": "{0: 0.5, 100: 0.5}", "reason_ratio": "{}"}
DATASET = json.dumps({"0": HISTOGRAMS, "1200": {"input_tokens": "{}", "output_tokens": "{}"}})


def folder_of(tmp_path, **files):
    folder = tmp_path / "pool"
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("__", "-").replace("_csv", ".csv").replace("_json", ".json")).write_text(text)
    return folder


@pytest.fixture
def pool(tmp_path):
    return folder_of(tmp_path, **{"chunk-0-trace.csv": TRACE, "chunk-0-dataset.json": DATASET})


def test_rates_are_met_exactly_and_lengths_come_from_the_histograms(pool):
    workload = read(pool)
    counts = np.bincount((workload.arrival_s // 600).astype(int), minlength=3)
    assert counts.tolist() == [0, 300, 600]
    assert set(workload.prompt_tokens.tolist()) == {45, 46}
    assert np.mean(workload.prompt_tokens == 46) == pytest.approx(0.75, abs=0.05)
    assert set(workload.output_tokens.tolist()) == {1, 100}  # a request has an output token at least
    assert workload.provenance["format"] == "servegen"
    assert workload.notes == ("drawn with seed 0 from the rates of 1 clients over 1800 s",)


def test_intervals_have_the_family_and_its_variation(tmp_path):
    steady = "0,1000,1.0,Gamma,25.0,1\n600,1000,1.0,Gamma,0.25,1\n1200,1000,1.0,Weibull,0.5,1\n"
    pool = ServeGenPool.read(folder_of(tmp_path, **{"chunk-3-trace.csv": steady}))
    workload = pool.generate(lengths="fixed", length_options={"prompt": 3, "output": 2})
    for window, cv in enumerate((0.2, 2.0, np.sqrt(5))):
        gaps_s = np.diff(workload.arrival_s[(workload.arrival_s // 600).astype(int) == window])
        assert gaps_s.std() / gaps_s.mean() == pytest.approx(cv, rel=0.05)


def test_less_time_gives_the_first_requests_and_the_seed_decides(pool):
    clients = ServeGenPool.read(pool)
    whole, part = clients.generate(), clients.generate(1000)
    assert whole.head(len(part)).hash == part.hash
    assert clients.generate(seed=1).hash != whole.hash
    assert clients.expected_requests(900) == pytest.approx(150)


def test_rates_are_scaled_without_a_bias(pool):
    clients = ServeGenPool.read(pool)
    counts = [len(clients.generate(rate_scale=0.0115, seed=seed)) for seed in range(40)]
    assert np.mean(counts) == pytest.approx(900 * 0.0115, abs=0.3)


def test_archives_of_several_models_need_a_folder(tmp_path):
    file = tmp_path / "all.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for name in ("x/data/a/chunk-0-trace.csv", "x/data/b/chunk-0-trace.csv", "x/data/b/chunk-0-dataset.json"):
            content = (DATASET if name.endswith("json") else TRACE).encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(TraceError, match=r"holds the clients of several models: x/data/a, x/data/b; give the folder"):
        read(file)
    assert ServeGenPool.read(file, "data/b").has_lengths
    with pytest.raises(
        TraceError, match=r"has rates but no lengths .*; give lengths to traces\.ServeGenPool\.generate"
    ):
        ServeGenPool.read(file, "data/a").generate()
    with pytest.raises(TraceError, match=r"holds no file chunk-0-trace\.csv"):
        ServeGenPool.read(file, "data/c")


@pytest.mark.parametrize(
    ("trace", "dataset", "words"),
    [
        ("0,1,1,Gamma,1\n", DATASET, "line has 5 cells on line 1 of chunk-0-trace.csv of "),
        ("0,x,1,Gamma,1,1\n", DATASET, "rate is 'x' on line 1 of "),
        ("0,-1,1,Gamma,1,1\n", DATASET, "rate is '-1' on line 1 of "),
        ("0,0,0,,0,0\n600,1,1,Pareto,1,1\n", DATASET, "family is 'Pareto' on line 2 of "),
        ("0,1,1,Gamma,0,1\n", DATASET, "shape is 0 on line 1 of "),
        ("600,1,1,Gamma,1,1\n0,1,1,Gamma,1,1\n", DATASET, "which has no windows, or some that do not rise"),
        ("\n", DATASET, "which has no windows"),
        (TRACE, "{", "which is no JSON object of windows"),
        (TRACE, '{"0": 5}', "input_tokens is None in the window of 0 s in chunk-0-dataset.json of "),
        (TRACE, '{"0": {"input_tokens": "{45}"}}', "input_tokens is '{45}' in the window of 0 s"),
        (TRACE, '{"0": {"input_tokens": "{4: -1}"}}', "input_tokens is '{4: -1}' in the window of 0 s"),
        (TRACE, '{"0": {"input_tokens": "{4.5: 1}"}}', "input_tokens is '{4.5: 1}' in the window of 0 s"),
    ],
)
def test_bad_files(tmp_path, trace, dataset, words):
    with pytest.raises(TraceError) as caught:
        read(folder_of(tmp_path, **{"chunk-0-trace.csv": trace, "chunk-0-dataset.json": dataset}))
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_damaged_archive_is_one_sentence(tmp_path, public_traces):
    whole = (public_traces / "servegen" / "deepseek-r1.tar.gz").read_bytes()
    file = tmp_path / "cut.tar.gz"
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TraceError, match=r"cut short|damaged"):
        read(file)


def test_the_public_pools(public_traces):
    pool = ServeGenPool.read(public_traces / "servegen" / "deepseek-r1.tar.gz")
    assert (len(pool.clients), pool.window_s, pool.duration_s) == (73, 600, 86400)
    assert pool.expected_requests(86400) / 86400 == pytest.approx(16.01, abs=0.01)
    workload = pool.generate(6000)
    assert len(workload) == pytest.approx(pool.expected_requests(6000), abs=73 * 10)
    rates = ServeGenPool.read(public_traces / "servegen" / "m-small_client_rates.tar.gz")
    assert (len(rates.clients), rates.duration_s, rates.has_lengths) == (43, 14 * 86400, False)
    with pytest.raises(TraceError, match="has rates but no lengths"):
        read(public_traces / "servegen" / "m-small_client_rates.tar.gz")
