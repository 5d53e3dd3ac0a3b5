import numpy as np
import pytest

import fastsim
from fastsim.machine import tables_for
from fastsim.searching.shared import SharedTables, roomy_tables


def sarathi(chunk: int, requests: int) -> fastsim.SimulationConfig:
    return fastsim.SimulationConfig(
        scheduler="sarathi", scheduler_options={"chunk_size": chunk, "max_num_seqs": requests}, max_model_len=4096
    )


def test_configurations_with_other_limits_share_tables():
    tables = SharedTables()
    one, other = (tables.of(config, False) for config in (sarathi(512, 32), sarathi(4096, 512)))
    assert one is other
    beyond = tables.of(sarathi(512, 1024), False)
    assert beyond is not one
    assert beyond.layout.max_sequences == 1024


def test_what_a_search_holds_does_not_change_its_tables():
    alone, beside = SharedTables(), SharedTables()
    beside.build([(sarathi(512, 512), False), (sarathi(2048, 64), False)], threads=1)
    config = sarathi(1024, 128)
    assert alone.of(config, False).hash == beside.of(config, False).hash


def test_room_changes_times_by_little():
    config = sarathi(512, 32)
    exact, roomy = tables_for(config), roomy_tables(config)
    assert roomy.layout.max_sequences > exact.layout.max_sequences
    decodes, kv = np.meshgrid(np.arange(1, 33), np.arange(0, exact.layout.max_kv, 997))
    histories, chunks = np.meshgrid(np.arange(0, 3584, 97), np.arange(1, 513, 13))
    for name, (one, other) in {"decode": (decodes, kv), "prefill": (histories, chunks)}.items():
        found, expected = (getattr(tables, f"{name}_time_s")(one, other) for tables in (roomy, exact))
        assert found == pytest.approx(expected, rel=0.02), name
        assert np.abs(found - expected).sum() < 1e-3 * expected.sum(), name
