"""Tables of chunks and decodes together: lookups, files, and which ones a simulation takes."""

from dataclasses import asdict, replace
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import flat_values, random_tables
from plain_tables import plain_config, plain_tables
from reference.config import ReferenceConfig
from reference.tables import ReferenceTables

import fastsim
from estimators import EstimatorError, IterationTables, TableLayout
from estimators.joint import JointLayout, SkewLayout
from fastsim import ConfigError

CONFIG = ReferenceConfig(
    batch_policy="vllm_v1",
    num_usable_blocks=100,
    block_size=4,
    max_num_seqs=6,
    max_num_batched_tokens=90,
    max_model_len=70,
)


def as_tables(tables: ReferenceTables) -> IterationTables:
    """The tables of the reference as a user has them."""
    sizes = ("max_tokens", "max_sequences", "max_kv", "max_history", "max_chunk")
    layout = TableLayout(*(getattr(tables, name) for name in (*sizes, "kv_bits", "history_bits", "chunk_bits")))
    assert tables.joint is not None
    axes = tables.joint.axes
    joint = JointLayout(*(axis.maximum for axis in axes), *(axis.bits for axis in axes))
    skew = None
    if tables.skew is not None:
        skew = SkewLayout(*(len(edges) + 1 for edges in tables.skew.edges))
    return IterationTables(np.array(flat_values(tables)), layout, "joint", {}, joint, skew)


def some_tables(seed: int = 0, skew: bool = True) -> IterationTables:
    return as_tables(random_tables(np.random.default_rng(seed), CONFIG, "joint", False, skew))


@given(
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.lists(st.integers(1, 70), max_size=6),
    st.lists(st.tuples(st.integers(0, 70), st.integers(1, 30)), max_size=3),
)
def test_lookups_equal_the_reference_to_the_last_bit(
    seed: int, skew: bool, contexts: list[int], chunks: list[tuple[int, int]]
):
    reference = random_tables(np.random.default_rng(seed), CONFIG, "joint", False, skew)
    counts = (len(contexts) + sum(chunk for _, chunk in chunks), min(6, len(contexts) + len(chunks)))
    of_decodes = len(contexts), sum(contexts)
    ends = (min(contexts), max(contexts)) if contexts else (0, 0)
    got = as_tables(reference).iteration_time_s(*counts, *of_decodes, chunks, ends)
    assert got == reference.iteration_s(*counts, *of_decodes, chunks, contexts)


@pytest.mark.parametrize("skew", [False, True])
def test_files_hold_all_parts(tmp_path: Path, skew: bool):
    tables = some_tables(skew=skew)
    tables.save(tmp_path / "tables")
    loaded = IterationTables.load(tmp_path / "tables")
    assert (loaded.joint, loaded.skew, loaded.hash) == (tables.joint, tables.skew, tables.hash)
    assert np.array_equal(loaded.values, tables.values)


def test_the_hash_of_tables_without_these_parts_is_what_it_was():
    tables = plain_tables(plain_config(4, 16), 0.01)
    parts = [sha256(tables.values.tobytes()).hexdigest(), asdict(tables.layout), "sum"]
    assert tables.hash == sha256(dumps(parts, sort_keys=True).encode()).hexdigest()


def test_the_hash_covers_the_axes():
    tables = some_tables()
    assert tables.joint is not None
    assert tables.skew is not None
    turned = replace(tables.skew, chunks=tables.skew.histories, histories=tables.skew.chunks)
    if turned != tables.skew:
        assert replace(tables, skew=turned).hash != tables.hash
    longer = replace(tables.joint, max_chunk=tables.joint.max_chunk - 1)
    assert longer.size == tables.joint.size
    assert replace(tables, joint=longer).hash != tables.hash


def without(**parts: Any) -> dict[str, Any]:
    return {"joint": None, "skew": None, "prefill_rule": "sum"} | parts


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prefill_rule": "sum"}, "prefill_rule 'sum' does not go with the optional parts"),
        ({"joint": None}, "prefill_rule 'joint' does not go with the optional parts"),
        (without(), "values .* do not fit the layout"),
        ({"prefill_rule": "both"}, "prefill_rule 'both' is not known; choose sum or equivalent_chunk or joint"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(changes: dict[str, Any], told: str):
    with pytest.raises(EstimatorError, match=told):
        replace(some_tables(), **changes)


@pytest.mark.parametrize(("place", "field"), [("joint", "joint_s"), ("skew", "skew")])
def test_values_that_are_no_numbers_are_refused(place: str, field: str):
    tables = some_tables()
    values = tables.values.copy()
    values[-1 if place == "skew" else tables.layout.size] = np.nan
    with pytest.raises(EstimatorError) as caught:
        replace(tables, values=values)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("field", "value"), [("max_chunk", 0), ("chunk_bits", 11), ("max_context", 2.0), ("decode_bits", True)]
)
def test_wrong_axes_are_refused(field: str, value: object):
    good: dict[str, Any] = {"max_chunk": 4, "max_history": 4, "max_decodes": 4, "max_context": 4}
    with pytest.raises(EstimatorError, match=field):
        JointLayout(**good | {field: value})
    with pytest.raises(EstimatorError, match="rates"):
        SkewLayout(1, 1, 0, 1, 1)


# In a simulation


def one_part_too_short(axis: str) -> IterationTables:
    """Tables for 4 requests of 64 tokens, but for one axis."""
    config = plain_config(4, 16, max_model_len=64)
    short = plain_tables(config, 0.01, max_chunk=16, max_kv=63 if axis == "max_kv" else 256)
    axes = {"max_chunk": 16, "max_history": 64, "max_decodes": 4, "max_context": 64}
    joint = JointLayout(**{name: size // 2 if name == axis else size for name, size in axes.items()})
    skew = SkewLayout(1, 1, 1, 1, 1)
    values = np.concatenate([short.values, np.ones(joint.size + skew.size)])
    return IterationTables(values, short.layout, "joint", {}, joint, skew)


@pytest.mark.parametrize("axis", ["max_chunk", "max_history", "max_decodes", "max_context", "max_kv"])
def test_a_run_that_could_read_beyond_the_tables_is_refused(axis: str):
    config = plain_config(4, 16, max_model_len=64, num_kv_blocks=17)
    workload = fastsim.Workload.from_arrays([0.0], [10], [4])
    with pytest.raises(ConfigError, match=rf"tables\.(joint\.)?{axis}"):
        fastsim.simulate(config, workload, tables=one_part_too_short(axis))


def test_the_time_of_a_batch_of_both_is_that_of_the_joint_table():
    config = plain_config(4, 64, max_model_len=128)
    base = plain_tables(config, 1.0, max_chunk=64, max_kv=512)
    joint = JointLayout(64, 128, 4, 128)
    values = np.concatenate([base.values, np.full(joint.size, 0.25)])
    tables = IterationTables(values, base.layout, "joint", {}, joint)
    # The second comes while the first decodes: its prompt shares one iteration with a decode.
    workload = fastsim.Workload.from_arrays([0.0, 1.5], [10, 20], [4, 1])
    requests = fastsim.simulate(config, workload, tables=tables).requests
    assert requests["completed_s"].to_list() == [4.25, 3.25]
