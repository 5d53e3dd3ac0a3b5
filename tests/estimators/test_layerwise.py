"""Tables from layerwise profiles: what is read, how a step is composed, and what stands for what was not measured."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layerwise_files import BUCKET_AXES, DENSE, SEQUENCES, TOKENS, attention_us, write_profile

from estimators import EstimatorError, IterationTables, load_model
from estimators.attention_grid import fill_holes, grid_of, resample
from estimators.joint import one_chunk
from estimators.layerwise import layerwise_tables
from estimators.sources.all_reduce import AllReduce, read_all_reduce
from estimators.sources.layerwise import read_layerwise

PROFILES = Path(__file__).resolve().parents[3] / "shared" / "data" / "profiles" / "llmservingsim"
MODEL = "meta-llama/Llama-3.1-8B"
SMALL = {"max_tokens": 256, "max_sequences": 16, "max_model_len": 512}
LAYERS = 32


def tiled(count: int, measured: Sequence[int]) -> int:
    """A measured count itself, and else the next whole number of tiles or the next one measured."""
    following = min((each for each in measured if each >= count), default=count)
    return min(-(-count // 16) * 16, following)


def layers_us(tokens: int, sequences: int) -> float:
    """An iteration of the small profile without attention: time goes on in straight lines, but in tiles of 16 rows."""
    tokens, sequences = tiled(tokens, TOKENS), tiled(sequences, SEQUENCES)
    outside = DENSE["embedding"] + DENSE["final_layernorm"]
    each = sum(DENSE.values()) - outside + DENSE["layernorm"] + 8 * tokens
    return LAYERS * each + outside + 2 * tokens + 2 * (100 + sequences)


@pytest.fixture
def small(tmp_path: Path) -> IterationTables:
    return layerwise_tables(write_profile(tmp_path / "profile"), MODEL, **SMALL)


# Composition


@pytest.mark.parametrize(("tokens", "sequences"), [(1, 1), (3, 2), (50, 5), (128, 8), (256, 16)])
def test_a_step_is_the_sum_of_its_layers(small: IterationTables, tokens: int, sequences: int):
    assert small.iteration_time_s(tokens, sequences) == pytest.approx(layers_us(tokens, sequences) / 1e6)


@pytest.mark.parametrize(
    ("chunks", "decodes", "kv", "key"),
    [
        ([], 4, 4 * 64, (0, 0, 4, 64)),
        ([], 8, 8 * 256, (0, 0, 8, 256)),
        ([(0, 32)], 0, 0, (32, 0, 0, 0)),
        ([(64, 128)], 0, 0, (128, 64, 0, 0)),
        ([(256, 16)], 2, 2 * 16, (16, 256, 2, 16)),
        ([(16, 64)], 8, 8 * 64, (64, 16, 8, 64)),
        # Between the measured points; the mean is a whole number.
        ([(0, 48)], 3, 3 * 160, (48, 0, 3, 160)),
    ],
)
def test_attention_is_that_of_all_layers_together(small: IterationTables, chunks, decodes, kv, key):
    seconds = small.iteration_time_s(0, 0, decodes, kv, chunks)
    assert seconds == pytest.approx(LAYERS * attention_us(*key) / 1e6)


def test_what_is_shorter_than_measured_takes_as_long_as_the_shortest(small: IterationTables):
    assert small.iteration_time_s(0, 0, 0, 0, [(0, 3)]) == pytest.approx(LAYERS * attention_us(16, 0, 0, 0) / 1e6)
    assert small.iteration_time_s(0, 0, 2, 10) == pytest.approx(LAYERS * attention_us(0, 0, 2, 16) / 1e6)


def test_a_longer_chunk_takes_as_long_as_chunks_of_the_longest_that_see_as_many_keys(small: IterationTables):
    # 256 tokens after 0 are 2 x 128 with 64 keys more in sight each.
    expected = 2 * LAYERS * attention_us(128, 64, 0, 0) / 1e6
    assert small.iteration_time_s(0, 0, 0, 0, [(0, 256)]) == pytest.approx(expected)
    both = small.iteration_time_s(0, 0, 4, 256, [(0, 256)])
    longer = LAYERS * (2 * attention_us(128, 64, 0, 0) - attention_us(128, 0, 0, 0)) / 1e6
    assert both == pytest.approx(LAYERS * attention_us(128, 0, 4, 64) / 1e6 + longer)


def test_stages_share_the_layers(tmp_path: Path):
    root = write_profile(tmp_path / "profile")
    whole = layerwise_tables(root, MODEL, **SMALL)
    parts = [layerwise_tables(root, MODEL, pp=3, stage=stage, **SMALL) for stage in range(3)]
    times = [tables.iteration_time_s(20, 4, 3, 300, [(16, 17)]) for tables in (whole, *parts)]
    assert times[0] == pytest.approx(sum(times[1:]))


def test_models_with_a_norm_of_queries_need_its_time(tmp_path: Path):
    root = write_profile(tmp_path / "profile")
    with pytest.raises(EstimatorError, match=r"dense.csv has no rows of 'qk_norm'"):
        layerwise_tables(root, "Qwen/Qwen3-8B", **SMALL)
    dense = root / "tp1" / "dense.csv"
    dense.write_text(dense.read_text() + "qk_norm,1,1000\nqk_norm,128,1000\n")
    model = load_model("Qwen/Qwen3-8B")
    # All weights but those of the embedding and the last norm, and one norm more; 8 layers that grow with the tokens.
    each = sum(DENSE.values()) - 20 + DENSE["layernorm"] + 8 * 16 + 1000
    expected = model.num_layers * each + 20 + 2 * 16 + 2 * 101
    assert layerwise_tables(root, model, **SMALL).iteration_time_s(16, 1) == pytest.approx(expected / 1e6)


def test_compressed_files_are_read_alike(tmp_path: Path):
    plain = layerwise_tables(write_profile(tmp_path / "plain"), MODEL, **SMALL)
    assert layerwise_tables(write_profile(tmp_path / "gz", gzipped=True), MODEL, **SMALL).hash == plain.hash


# Communication

#: A message of n elements takes 1 us, and 1 us for each 1024.
LINK = AllReduce(2, np.array([1024, 2048]), np.array([2e-6, 3e-6]), "toy")


def test_a_split_model_adds_its_all_reduces(tmp_path: Path):
    root = write_profile(tmp_path / "profile", tp=2)
    tables = layerwise_tables(root, MODEL, 2, all_reduce=LINK, **SMALL)
    # Two for each layer and one for the embedding, of 4096 elements for each token.
    reduced_us = (2 * LAYERS + 1) * (1 + 4 * 10)
    # The logits are gathered: 0.65 of an all-reduce of the vocabulary, 128256, for each request.
    gathered_us = 0.65 * (1 + 128256 * 3 / 1024)
    expected = layers_us(10, 3) + reduced_us + gathered_us
    assert tables.iteration_time_s(10, 3) == pytest.approx(expected / 1e6)
    assert tables.iteration_time_s(0, 0) == 0.0
    assert tables.provenance["all_reduce"] == "toy"


def test_stages_of_a_split_model_share_its_all_reduces(tmp_path: Path):
    root = write_profile(tmp_path / "profile", tp=2)
    pp = [layerwise_tables(root, MODEL, 2, all_reduce=LINK, pp=2, stage=stage, **SMALL) for stage in (0, 1)]
    whole = layerwise_tables(root, MODEL, 2, all_reduce=LINK, **SMALL)
    together = sum(tables.iteration_time_s(10, 3) for tables in pp)
    # What the second stage receives, hidden state and residual, its GPUs gather.
    assert together - whole.iteration_time_s(10, 3) == pytest.approx(2 * 0.65 * (1 + 4 * 10) / 1e6)


def test_a_split_model_without_its_all_reduces_is_refused(tmp_path: Path):
    root = write_profile(tmp_path / "profile", tp=2)
    with pytest.raises(EstimatorError, match="tp 2 needs the time of an all-reduce of as many GPUs"):
        layerwise_tables(root, MODEL, 2, **SMALL)


def test_the_public_all_reduce_is_found_by_the_name_of_the_hardware():
    public("RTXPRO6000")
    times = read_all_reduce(PROFILES.parent, "RTXPRO6000", 2, "0.19.0")
    assert times.source == "rtx_pro_6000_server vllm 0.19.0"
    assert times.at(4096) == pytest.approx(19.084e-6, rel=1e-3)


# Skew


def skewed_tables(root: Path, **more) -> IterationTables:
    shares = [(0, "n<=4", "low", "kvB>64", "kp=0", 0.5), (0, "n<=4", "high", "kvB>64", "kp=0", 30.0)]
    shares += [(16, "n>4", "low", "kvB<=64", "kp>0", -0.125), (64, "n>4", "low", "kvB<=64", "kp>0", 0.75)]
    return layerwise_tables(write_profile(root, **({"skew": True, "shares": shares} | more)), MODEL, **SMALL)


@pytest.mark.parametrize(
    ("chunks", "decodes", "kv", "contexts", "share"),
    [
        ([], 4, 400, (80, 160), 0.5),  # rate (100 - 80) / 80
        ([], 4, 600, (80, 160), 1.0),  # rate 7 / 8; 30 would say longer than all at full length
        ([], 8, 800, (80, 160), 0.25),  # a bucket without a fit
        ([(30, 16)], 8, 8 * 20, (16, 64), -0.125),
        ([(30, 31)], 8, 8 * 20, (16, 64), -0.125),  # nearer to 16 than to 64
        ([(30, 33)], 8, 8 * 20, (16, 64), 0.75),
    ],
)
def test_unequal_decodes_lie_between_those_of_mean_and_of_largest_length(
    tmp_path: Path, chunks, decodes, kv, contexts, share
):
    tables = skewed_tables(tmp_path / "profile")
    mean, longest = tables.iteration_time_s(0, 0, decodes, kv, chunks), (decodes * contexts[1])
    expected = mean + share * (tables.iteration_time_s(0, 0, decodes, longest, chunks) - mean)
    assert tables.iteration_time_s(0, 0, decodes, kv, chunks, contexts) == pytest.approx(expected)
    assert tables.iteration_time_s(0, 0, decodes, kv, chunks, (7, 7)) == mean


def test_a_share_below_nothing_takes_off_half_at_most(tmp_path: Path):
    tables = skewed_tables(tmp_path / "profile", shares=[(0, "n<=2", "low", "kvB>64", "kp=0", -1.0)])
    mean = tables.iteration_time_s(0, 0, 2, 60)
    assert tables.iteration_time_s(0, 0, 2, 60, (), (10, 500)) == mean / 2


@pytest.mark.parametrize("skew", [False, None])
def test_skew_is_left_out_unless_it_is_enabled(tmp_path: Path, skew: bool | None):
    assert skewed_tables(tmp_path / "profile", skew=skew).skew is None


# What is wrong, told by file and row


@pytest.mark.parametrize(
    ("file", "before", "after", "told"),
    [
        ("dense.csv", "act_fn,4,17", "act_fn,4,", r"dense.csv: row 40, column 'time_us' is empty"),
        (
            "dense.csv",
            "act_fn,4,17",
            "act_fn,four,17",
            r"dense.csv: row 40, column 'tokens' 'four' is not a whole number",
        ),
        (
            "dense.csv",
            "act_fn,4,17",
            "act_fn,4,-1",
            r"dense.csv: row 40, column 'time_us' '-1' is not a number above 0",
        ),
        ("dense.csv", "layer,tokens", "layer,count", r"dense.csv has no column 'tokens'"),
        ("per_sequence.csv", "sampler", "dreamer", r"per_sequence.csv has no rows of 'sampler'"),
        (
            "attention.csv",
            "16,0,1,16,",
            "16,0,1.5,16,",
            r"attention.csv: row \d+, column 'n_decode' '1.5' is not a whole",
        ),
        ("skew_fit.csv", "n<=2", "n<=3", r"skew_fit.csv: row 2, column 'n_label' 'n<=3' is no bin of meta.yaml"),
    ],
)
def test_a_wrong_cell_is_told(tmp_path: Path, file: str, before: str, after: str, told: str):
    root = write_profile(tmp_path / "profile", skew=True, shares=[(0, "n<=2", "low", "kvB>64", "kp=0", 1.0)])
    path = root / "tp1" / file
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(EstimatorError, match=told):
        layerwise_tables(root, MODEL, **SMALL)


def test_what_is_missing_is_told(tmp_path: Path):
    root = write_profile(tmp_path / "profile", tp=2)
    with pytest.raises(EstimatorError, match=r"tp 1 was not measured in .*; choose one of those there: tp2"):
        read_layerwise(root, 1)
    (root / "tp2" / "attention.csv").unlink()
    with pytest.raises(EstimatorError, match=r"attention.csv is not in .*tp2"):
        read_layerwise(root, 2)
    with pytest.raises(EstimatorError, match=r"meta.yaml of .*nowhere cannot be read"):
        read_layerwise(tmp_path / "nowhere", 1)


def test_a_profile_without_both_together_is_refused(tmp_path: Path):
    root = write_profile(tmp_path / "profile")
    path = root / "tp1" / "attention.csv"
    rows = [row for row in path.read_text().splitlines() if row.startswith(("prefill", "0,")) or ",0,0," in row]
    path.write_text("\n".join(rows))
    with pytest.raises(EstimatorError, match="has no rows of both"):
        layerwise_tables(root, MODEL, **SMALL)


def test_bins_that_do_not_match_their_labels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(BUCKET_AXES, "kp_bins", [-1, 0])
    root = write_profile(tmp_path / "profile", skew=True, shares=[(0, "n<=2", "low", "kvB>64", "kp=0", 1.0)])
    with pytest.raises(EstimatorError, match="does not say the bins of 'kp'"):
        read_layerwise(root)


# Holes


def test_holes_take_the_line_between_the_nearest_neighbours():
    axes, grid = grid_of(np.array([(0, 1), (0, 4), (10, 1), (10, 2), (10, 4)]), np.array([0.0, 30.0, 1.0, 11.0, 31.0]))
    assert np.isnan(grid[0, 1])
    assert fill_holes(axes, grid)[0, 1] == 10.0


def test_beyond_the_measured_cells_the_last_line_goes_on_and_does_not_fall():
    nan = np.nan
    filled = fill_holes((np.array([1, 2, 4]),) * 2, np.array([[1.0, 3.0, nan], [3.0, 2.0, nan], [nan, nan, nan]]))
    assert filled[:2, 2].tolist() == [7.0, 2.0]
    assert filled[2].tolist() == [7.0, 2.0, 2.0]
    with pytest.raises(EstimatorError, match=r"profile 4 cells cannot be told"):
        fill_holes((np.array([1, 2]),) * 2, np.full((2, 2), np.nan))


def test_interpolation_ends_flat_at_the_bottom_and_straight_at_the_top():
    grid = np.array([[1.0, 2.0, 6.0]])
    assert resample(grid, np.array([10, 20, 40]), np.array([0, 10, 15, 30, 60]), 1).tolist() == [[1, 1, 1.5, 4, 10]]
    falling = np.array([3.0, 1.0])
    assert resample(falling, np.array([10, 20]), np.array([15, 40]), 0).tolist() == [2.0, 1.0]


# One chunk for several


def test_one_chunk_stands_for_itself():
    for history in (0, 1, 7, 1000):
        for chunk in (1, 2, 100):
            assert one_chunk([(history, chunk)]) == (history, chunk)


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 3000)), min_size=1, max_size=6))
def test_one_chunk_has_all_tokens_and_the_history_that_they_see_on_average(chunks: list[tuple[int, int]]):
    history, chunk = one_chunk(chunks)
    seen = [history for history, tokens in chunks for _ in range(tokens)]
    assert chunk == len(seen)
    assert history <= sum(seen) / len(seen) < history + 1


# The public profiles


def public(hardware: str) -> Path:
    root = PROFILES / hardware / MODEL
    if not root.is_dir():
        pytest.skip("the layerwise profiles are not in ../shared/data")
    return root


@pytest.mark.parametrize(
    ("hardware", "tp", "skew"), [("RTX4090", 1, False), ("RTXPRO6000", 1, True), ("RTXPRO6000", 2, True)]
)
def test_the_public_profiles_give_back_what_was_measured(hardware: str, tp: int, skew: bool):
    free = AllReduce(tp, np.array([1, 2]), np.zeros(2), "none") if tp > 1 else None
    tables = layerwise_tables(public(hardware), MODEL, tp, max_model_len=16384, all_reduce=free)
    assert (tables.skew is not None) == skew
    keys, seconds = read_layerwise(public(hardware), tp).attention
    is_two = ((keys & (keys - 1)) == 0).all(axis=1) & (keys[:, 1] < 16384) & (keys[:, 3] < 16384)
    rows = np.flatnonzero(is_two)[::23]
    assert rows.size > 100
    for (chunk, history, decodes, context), measured in zip(keys[rows].tolist(), seconds[rows], strict=True):
        chunks = [(history, chunk)] if chunk else []
        assert tables.iteration_time_s(0, 0, decodes, decodes * context, chunks) == pytest.approx(LAYERS * measured)


@pytest.mark.parametrize(
    ("hardware", "tp", "mean", "median"), [("RTX4090", 1, 0.045, 0.01), ("RTXPRO6000", 1, 0.035, 0.01)]
)
def test_held_out_cells_are_filled_well(hardware: str, tp: int, mean: float, median: float):
    keys, seconds = read_layerwise(public(hardware), tp).attention
    both = (keys[:, 0] > 0) & (keys[:, 2] > 0)
    axes, grid = grid_of(keys[both], seconds[both])
    known = np.argwhere(~np.isnan(grid))
    held_out = tuple(known[np.random.default_rng(0).random(len(known)) < 0.1].T)
    rest = grid.copy()
    rest[held_out] = np.nan
    error = np.abs(fill_holes(axes, rest)[held_out] / grid[held_out] - 1)
    assert error.mean() < mean
    assert np.median(error) < median


def test_a_grid_of_steps_of_two_tells_the_cells_between():
    keys, seconds = read_layerwise(public("RTXPRO6000")).attention
    both = (keys[:, 0] > 0) & (keys[:, 2] > 0)
    keys, seconds = keys[both], seconds[both]
    is_two = ((keys & (keys - 1)) == 0).all(axis=1)
    axes, coarse = grid_of(keys[is_two], seconds[is_two])
    # Every other axis of the grid holds powers of two alone, so the cells between are filled along up to three axes.
    every, grid = grid_of(keys, seconds)
    filled = fill_holes(axes, coarse)
    for number, (axis, points) in enumerate(zip(axes, every, strict=True)):
        filled = resample(filled, axis, points, number)
    between = ~np.isnan(grid) & (np.abs(filled / grid - 1) > 1e-9)
    error = filled[between] / grid[between] - 1
    assert between.sum() > 10_000
    assert np.abs(error).mean() < 0.035
    assert abs(error.mean()) < 0.005


def test_shares_of_their_buckets_tell_the_times_of_unequal_decodes():
    fit = read_layerwise(public("RTXPRO6000")).skew
    assert fit is not None
    rows = pl.read_csv(public("RTXPRO6000") / "tp1" / "skew.csv.gz")
    columns = ("pc", "n", "kvs", "kv_big", "kv_mean", "kp", "t_mean_us", "t_max_us", "t_skew_us")
    pc, n, least, most, mean, kp, mean_us, most_us, measured_us = (rows[name].to_numpy() for name in columns)
    place = [np.searchsorted(fit.chunks, pc)]
    place += [
        np.searchsorted(e, x) for e, x in zip(fit.edges, (n, (mean - least) / (most - least), most, kp), strict=True)
    ]
    share = np.clip(fit.alpha[tuple(place)], -1, 1)
    without, corrected = mean_us / measured_us - 1, (mean_us + share * (most_us - mean_us)) / measured_us - 1
    assert np.abs(without).mean() > 0.08
    assert without.mean() < -0.07
    assert np.abs(corrected).mean() < 0.03
    assert abs(corrected.mean()) < 0.004


def test_one_prompt_of_as_many_pairs_stands_for_several_prompts():
    path = PROFILES.parent / "aiconfigurator" / "rtx_pro_6000_server" / "vllm-0.19.0" / "context_attention_perf.parquet"
    if not path.is_file():
        pytest.skip("the profiles of aiconfigurator are not in ../shared/data")
    heads = {
        "num_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "attn_dtype": "bfloat16",
        "kv_cache_dtype": "bfloat16",
    }
    rows = pl.read_parquet(path).filter(*(pl.col(name) == value for name, value in heads.items()), pl.col("step") == 0)
    times = {
        (batch, chunk): seconds for batch, chunk, seconds in rows.select("batch_size", "isl", "latency").iter_rows()
    }
    chunks, seconds = zip(*sorted((chunk, t) for (batch, chunk), t in times.items() if batch == 1), strict=True)

    def alone(chunk: int) -> float:
        return float(np.exp(np.interp(np.log(chunk), np.log(chunks), np.log(seconds))))

    several = {(b, c): t for (b, c), t in times.items() if b > 1 and c >= 256 and b * c <= 8192}
    assert len(several) > 15
    errors = [alone(one_chunk([(0, c)] * b)[1]) / t - 1 for (b, c), t in several.items()]
    # What docs/accuracy.md says: prompts that begin together are taken as two to four times the attention they are.
    assert 0.9 < np.median(errors) < 3.0
