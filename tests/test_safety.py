"""Files of strangers: what they may take of memory and time is bounded, and nothing in them is run."""

import ast
import contextlib
import gzip
import io
import json
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest

from estimators import bounded
from estimators.errors import EstimatorError
from estimators.onnx import Model, compressed, export
from estimators.onnx_checks import check_model
from estimators.parquet_sizes import check_sizes
from estimators.regressors import KINDS, fit
from estimators.sources.layerwise import read_meta
from estimators.tables_of_files import csv_frame, npz_arrays, parquet_frame, yaml_table
from estimators.vidur_tables import OperatorTables
from fastsim.config import SimulationConfig
from fastsim.errors import ConfigError
from traces.errors import TraceError
from traces.readers import read

ROOT = Path(__file__).resolve().parents[1]
#: Reads machine code that the same user has compiled, as numba's own cache does: no file of a stranger's.
COMPILED = ROOT / "fastsim" / "kernel" / "disk_cache.py"
SOURCES = [path for package in ("fastsim", "estimators", "traces") for path in (ROOT / package).rglob("*.py")]
SOURCES.remove(COMPILED)
#: What reads objects, and so runs what a stranger wrote; or runs text.
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "pickletools"}
FUNCTIONS = {"eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.load", "np.load", "numpy.load"}
#: The one use of each that reads no objects.
ALLOWED = {"yaml.load": "yaml.load(text, _safe_loader())", "np.load": "allow_pickle=False"}


def calls(tree: ast.AST) -> list[tuple[str, str]]:
    """Name and text of every call."""
    return [(ast.unparse(node.func), ast.unparse(node)) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_reads_objects_or_runs_text(source: Path) -> None:
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        assert not {name.partition(".")[0] for name in names} & MODULES
    for name, text in calls(tree):
        assert name not in FUNCTIONS or (name in ALLOWED and ALLOWED[name] in text), text


def test_the_packages_copies_are_one_text() -> None:
    for name in ("bounded.py", "parquet_sizes.py"):
        assert (ROOT / "estimators" / name).read_bytes() == (ROOT / "traces" / name).read_bytes()


def refused(error: BaseException) -> str:
    """The sentence of an error, which is one line and names field, value and mend."""
    for name in ("field", "value", "mend"):
        assert hasattr(error, name)
    sentence = str(error)
    assert sentence.endswith(".")
    assert sentence.isprintable()
    return sentence


def test_a_file_larger_than_the_bound_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # of holes
    with pytest.raises(ValueError, match="more than the 16,777,216 bytes that are read"):
        bounded.read_bounded(path)
    with pytest.raises(TraceError) as caught:
        read(path)
    assert "more than the 4,294,967,296 bytes" in refused(caught.value)


def test_a_gzip_bomb_is_refused_and_a_text_that_packs_well_is_not(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    rows = b"arrived_at,num_prefill_tokens,num_decode_tokens\n" + b"0,10,10\n" * 1_000_000
    path.write_bytes(gzip.compress(rows))
    assert len(read(path)) == 1_000_000
    path.write_bytes(gzip.compress(bytes(100 << 20)))
    with pytest.raises(TraceError) as caught:
        read(path)
    assert "unpack to more than 67,108,864" in refused(caught.value)


def test_a_text_packed_twice_is_refused(tmp_path: Path) -> None:
    inside = b"num_prefill_tokens,num_decode_tokens\n1,1\n"
    for packed in (gzip.compress(inside), zlib.compress(inside)):
        (tmp_path / "a.csv.gz").write_bytes(gzip.compress(packed))
        with pytest.raises(TraceError, match="is compressed twice"):
            read(tmp_path / "a.csv.gz")
        with pytest.raises(ValueError, match="it is compressed twice"):
            csv_frame(tmp_path / "a.csv.gz")


def test_a_header_of_a_million_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"," * 1_000_000 + b"\n")
    with pytest.raises(TraceError, match="has 1,000,001 columns on line 1"):
        read(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="1,000,001 columns"):
        csv_frame(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5000, "an integer has 5000 digits"),
        ("9223372036854775808", "an integer has 19 digits"),
        ("1e999", "a number is too large"),
        ("NaN", "NaN is no number"),
        ("-Infinity", "-Infinity is no number"),
        ('{"a": 1, "a": 2}', "has a key twice"),
        (b'"\xff"', "byte 1 is not UTF-8"),
        ("", "Expecting value"),
    ],
    ids=str,
)
def test_json_that_is_none_is_a_value_error(text: Any, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        bounded.parsed_json(text)


def test_json_is_what_json_reads() -> None:
    value = {"a": [1, -(2**63) + 1, 0.1, 1e308, None, True, "é"], "b": {}}
    assert bounded.parsed_json(json.dumps(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 100_000,
        ".".join("a" * 100_000) + " = 1",  # would take tens of gigabytes
        "x = " + "9" * 5000,
        "seed = 0x" + "f" * 5000,  # which Python reads, but does not print
        "slo = {ttft = [0b1" + "0" * 20_000 + "]}",
        'warmup = "1' + " " * 900_000 + '!"',
        'warmup = "1' + "e" * 900_000 + '!"',
        "seed = 1\n" * 200_000,
        "a = '\x00'",
    ],
    ids=["deep", "dotted", "digits", "bits", "bits in a list", "spaces", "exponents", "long", "control"],
)
def test_toml_that_is_none_is_one_sentence(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SimulationConfig.from_toml(text)
    refused(caught.value)


def test_yaml_may_not_mean_more_than_it_says(tmp_path: Path) -> None:
    bomb = "a: &a [x, x]\nb: &b [*a, *a]\n"
    with pytest.raises(ValueError, match="has an alias"):
        yaml_table(bomb.encode())
    sixties = "1" + ":1" * 10**6
    for text in ("a: 1" + "0" * 400, f"a: {2**63}", "a: 1.e+999" + "9" * 400, f"a: {sixties}", f"a: {sixties}.5"):
        with pytest.raises(ValueError, match=r"of it has (more than 64 bits|\d+ digits)"):
            yaml_table(text.encode())
    assert yaml_table(b"{a: -9223372036854775807, b: 1:30, c: 2.5e+3}") == {"a": 1 - 2**63, "b": 90, "c": 2500.0}
    for text in (bomb, "!!python/object/apply:os.system ['true']", "[" * 3000, "2001-99-99", "? [a]: b\n", "!!int [1]"):
        (tmp_path / "meta.yaml").write_text(text)
        with pytest.raises(EstimatorError) as caught:
            read_meta(tmp_path)
        refused(caught.value)


def parquet(frame: pl.DataFrame) -> bytes:
    file = io.BytesIO()
    frame.write_parquet(file, statistics=False)
    return file.getvalue()


FRAME = pl.DataFrame({"arrival_s": [0.0, 1.0], "prompt_tokens": [5, 6], "output_tokens": [1, 2]})


@pytest.mark.parametrize("compression", ["zstd", "lz4", "snappy", "gzip", "brotli", "uncompressed"])
def test_what_polars_writes_passes(compression: Any) -> None:
    frame = pl.DataFrame({"a": [[1, 2], [], None] * 999, "s": ["x", "y", None] * 999, "e": [None, None, 1] * 999})
    file = io.BytesIO()
    frame.write_parquet(file, compression=compression, row_group_size=500)
    check_sizes(file.getvalue(), 1 << 20)
    with pytest.raises(ValueError, match=r"bytes of values and at most 10,000 are read"):
        check_sizes(file.getvalue(), 10_000)


def test_a_parquet_file_that_repeats_one_value_is_counted_by_its_rows() -> None:
    file = io.BytesIO()
    pl.select(pl.lit(0).repeat_by(1).explode().first().repeat_by(3_000_000).explode()).write_parquet(file)
    assert len(file.getvalue()) < 20_000
    with pytest.raises(ValueError, match=r"holds 2[45],"):
        check_sizes(file.getvalue(), 1 << 20)


def test_a_footer_that_claims_other_rows_is_refused(tmp_path: Path) -> None:
    content = parquet(FRAME)
    refusals = 0
    for place in range(len(content) - 300, len(content)):
        for value in (0x7F, 0xFF):
            changed = bytearray(content)
            changed[place] = value
            try:
                check_sizes(bytes(changed), 1 << 20)
            except ValueError as error:
                refusals += "damaged" in str(error) or "rows" in str(error) or "values" in str(error)
            (tmp_path / "a.parquet").write_bytes(changed)
            with contextlib.suppress(ValueError):
                assert parquet_frame(tmp_path / "a.parquet")[0].height < 1000
    assert refusals > 20


def npz(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def npy(shape: str, content: bytes = b"", descr: str = "<f8") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def test_arrays_come_back(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6).reshape(2, 3), "b": np.asfortranarray(np.ones((2, 3))), "c": np.zeros((0, 2))}
    np.savez(tmp_path / "a.npz", **arrays)
    for name, array in npz_arrays(tmp_path / "a.npz").items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == arrays[name].dtype


@pytest.mark.parametrize(
    "content",
    [
        npz(a=npy("(1000000000000,)")),
        npz(a=npy("(2, -1)", bytes(16))),
        npz(a=npy("(1,)", bytes(8), "|O")),
        npz(a=npy("((((" * 1000)),
        npz(a=b"nothing"),
        npz(a=bytes(1 << 20)).replace(b"\x00\x00\x10\x00", b"\xff\xff\xff\x7f"),
        b"PK\x03\x04",
        b"",
    ],
    ids=["huge", "negative", "objects", "nested", "no array", "lying archive", "torn", "empty"],
)
def test_an_npz_file_that_lies_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(EstimatorError) as caught:
        OperatorTables.read_npz(tmp_path / "a.npz")
    refused(caught.value)


def test_a_sparse_file_in_an_archive_is_left_out(tmp_path: Path) -> None:
    header = tarfile.TarInfo("m/chunk-0-trace.csv")
    header.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"77777777777\x00"  # its size with the holes
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\x00 ".encode()
    (tmp_path / "a.tar").write_bytes(bytes(block) + bytes(1024))
    with pytest.raises(TraceError) as caught:
        read(tmp_path / "a.tar")
    refused(caught.value)


@pytest.fixture(scope="module")
def models() -> dict[str, onnx.ModelProto]:
    generator = np.random.default_rng(0)
    features, target = generator.random((200, 3)).astype(np.float32), generator.random(200)
    return {kind: onnx.load_from_string(export(fit(kind, features, target, 0), 3, {})) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_trained_passes(models: dict[str, onnx.ModelProto], kind: str) -> None:
    check_model(models[kind].SerializeToString())


def changed(model: onnx.ModelProto, name: str, place: int, value: Any) -> bytes:
    """A forest with another entry in one of its lists."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    (entry,) = (entry for entry in other.graph.node[0].attribute if entry.name == name)
    if isinstance(value, bytes):
        entry.strings[place] = value
    else:
        entry.ints[place] = value
    return other.SerializeToString()


@pytest.mark.parametrize(
    ("name", "place", "value", "wrong"),
    [
        ("nodes_truenodeids", 0, 0, "behind its parent"),  # itself: would be followed for ever
        ("nodes_truenodeids", 0, 10**9, "behind its parent"),
        ("nodes_truenodeids", 0, 5, "two parents"),
        ("nodes_featureids", 0, 3, "feature that there is not"),
        ("nodes_featureids", 0, -1, "feature that there is not"),
        ("nodes_modes", 0, b"BRANCH_EQ", "branch in another way"),
        ("nodes_nodeids", 1, 10**9, "numbered one by one"),
        ("nodes_treeids", 0, 10**9, "numbered one by one"),
        ("target_nodeids", 0, 10**9, "belong to no leaves"),
        ("target_nodeids", 0, 0, "belong to no leaves"),
        ("target_treeids", 0, -1, "belong to no trees"),
        ("target_ids", 0, 5, "a member that there is not"),
    ],
)
def test_a_forest_that_is_none_is_refused(
    models: dict[str, onnx.ModelProto], name: str, place: int, value: Any, wrong: str
) -> None:
    content = changed(models["forest"], name, place, value)
    with pytest.raises(ValueError, match=wrong):
        check_model(content)
    with pytest.raises(EstimatorError) as caught:
        Model(compressed(content), Path("a.onnx.xz"))
    refused(caught.value)


def test_operators_and_files_beside_it_are_refused(models: dict[str, onnx.ModelProto]) -> None:
    nodes = [onnx.helper.make_node("Concat", ["features"] * 2, ["x0"], axis=1)]
    nodes += [onnx.helper.make_node("Concat", [f"x{i}"] * 2, [f"x{i + 1}"], axis=1) for i in range(40)]
    for added, wrong in (
        ([onnx.helper.make_node("Loop", ["features"], ["x"])], "has the operator"),
        ([onnx.helper.make_node("Expand", ["features"], ["x"])], "has the operator"),
        ([onnx.helper.make_node("Add", ["features", "features"], ["x"])], "no constant"),
        ([onnx.helper.make_node("Concat", ["features"] * 2, ["x"], axis=0)], "rows below each other"),
        (nodes, "computes too much"),
    ):
        model = onnx.ModelProto()
        model.CopyFrom(models["linear"])
        model.graph.node.extend(added)
        with pytest.raises(ValueError, match=wrong):
            check_model(model.SerializeToString())
    model = onnx.ModelProto()
    model.CopyFrom(models["linear"])
    elsewhere = model.graph.initializer[0]
    elsewhere.data_location = onnx.TensorProto.EXTERNAL
    elsewhere.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(ValueError, match="another file"):
        check_model(model.SerializeToString())


def test_a_model_that_unpacks_to_more_than_is_read_is_refused() -> None:
    bomb = lzma.compress(bytes(257 << 20), preset=0)
    with pytest.raises(EstimatorError) as caught:
        Model(bomb, Path("a.onnx.xz"))
    refused(caught.value)


def test_a_sentence_is_one_line_whatever_a_file_says() -> None:
    nasty = "a\nb\x1b[31m\u2028\ud800"
    for kind in (ConfigError, EstimatorError, TraceError):
        assert refused(kind(nasty, nasty, f"is {nasty!s}", "mend it")).count("\n") == 0
