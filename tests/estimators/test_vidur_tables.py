import numpy as np
import pytest

from estimators import EstimatorError
from estimators.vidur_tables import CPU_OPERATORS, TOKEN_OPERATORS, OperatorTables

TOKENS = np.array([[1], [2], [8]])


def operators(**more):
    known = {name: (TOKENS, [0.1, 0.2, 0.8]) for name in TOKEN_OPERATORS}
    known["attn_decode"] = (np.array([[1, 0], [1, 64], [3, 128], [2, 100]]), [1.0, 2.0, 3.0, 9.0])
    known["attn_prefill"] = (np.array([[0, 1], [64, 25], [64, 26], [9, 4]]), [1.0, 2.0, 9.0, 9.0])
    return known | more


def test_every_time_is_at_its_key_and_nothing_elsewhere():
    tables = OperatorTables.from_operators(operators())
    add = tables.token_ms["add"]
    assert add[[1, 2, 8]].tolist() == [0.1, 0.2, 0.8]
    assert np.isnan(add[[0, 3, 7]]).all()
    assert tables.decode_ms.shape == (4, 3)
    assert (tables.decode_ms[1, 0], tables.decode_ms[1, 1], tables.decode_ms[3, 2]) == (1.0, 2.0, 3.0)
    assert np.isfinite(tables.decode_ms).sum() == 3  # a context between the steps cannot be asked for
    assert (tables.prefill_ms[0, 1], tables.prefill_ms[1, 5]) == (1.0, 2.0)
    assert np.isfinite(tables.prefill_ms).sum() == 2
    assert not tables.cpu_ms


def test_cpu_operators_are_kept_on_demand():
    cpu = {name: (np.array([[1]]), [0.5]) for name in CPU_OPERATORS}
    assert not OperatorTables.from_operators(operators(**cpu)).cpu_ms
    tables = OperatorTables.from_operators(operators(**cpu), cpu_overhead=True)
    assert {name: float(ms[1]) for name, ms in tables.cpu_ms.items()} == dict.fromkeys(CPU_OPERATORS, 0.5)
    assert tables.hash != OperatorTables.from_operators(operators(**cpu)).hash


def test_the_hash_follows_the_times():
    tables = OperatorTables.from_operators(operators())
    assert tables.hash == OperatorTables.from_operators(operators(), provenance={"x": 1}).hash
    assert tables.hash != OperatorTables.from_operators(operators(add=(TOKENS, [0.1, 0.2, 0.9]))).hash


def test_npz_files(tmp_path):
    arrays = {}
    for name, (keys, ms) in operators().items():
        arrays |= {f"{name}__keys": keys, f"{name}__ms": np.array(ms)}
    np.savez(tmp_path / "tables.npz", **arrays)
    tables = OperatorTables.read_npz(tmp_path / "tables.npz")
    assert tables.hash == OperatorTables.from_operators(operators()).hash
    assert tables.provenance["file"] == "tables.npz"


def test_refusals(tmp_path):
    with pytest.raises(EstimatorError, match="lack mlp_act; give its keys and milliseconds"):
        OperatorTables.from_operators({name: table for name, table in operators().items() if name != "mlp_act"})
    with pytest.raises(EstimatorError, match=r"operators: add -1.0 is not a duration; give 0 ms or more"):
        OperatorTables.from_operators(operators(add=(TOKENS, [0.1, -1.0, 0.9])))
    with pytest.raises(EstimatorError, match=r"operators: add .* are no keys; give 1 per time, 0 or more"):
        OperatorTables.from_operators(operators(add=(TOKENS[:2], [0.1, 1.0, 0.9])))
    with pytest.raises(EstimatorError, match="cannot be read"):
        OperatorTables.read_npz(tmp_path / "nothing.npz")
    (tmp_path / "text.npz").write_text("no")
    with pytest.raises(EstimatorError, match="cannot be read"):
        OperatorTables.read_npz(tmp_path / "text.npz")
