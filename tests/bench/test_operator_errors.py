"""bench/operator_errors.py on profiles made here, whose times follow the roofline."""

import gzip
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from layerwise_files import write_profile
from run_files import bench, refusal

from estimators.devices import load_device
from estimators.features import Roofline
from estimators.training import TrainingSet

A100 = load_device("a100_sxm")
ROOFLINE = Roofline(A100.matrix_rate("bf16"), A100.memory_bandwidth, A100.num_sms, A100.nvlink_bandwidth, 5e-6, False)
TOKENS = (*range(1, 65, 3), *range(64, 2049, 64))


@pytest.fixture(scope="module")
def modules(script: Callable[[str], ModuleType]) -> SimpleNamespace:
    names = ("operator_errors", "operator_plot", "operator_profiles", "vidur_recipe")
    return SimpleNamespace(**{name: script(name) for name in names})


def products(shapes: tuple[tuple[int, int], ...]) -> TrainingSet:
    """Rows that take 1.2 times the roofline, with little ripples."""
    m, (n, k) = np.tile(np.array(TOKENS, dtype=np.float64), len(shapes)), np.repeat(shapes, len(TOKENS), axis=0).T
    columns = {"m": m, "n": n.astype(np.float64), "k": k.astype(np.float64)}
    bound_s = TrainingSet.of("gemm", columns, np.ones(m.size), ROOFLINE).bound_s
    return TrainingSet.of("gemm", columns, 1.2 * bound_s * (1 + 0.01 * np.sin(m)), ROOFLINE)


def test_both_recipes_are_asked_for_the_same_rows(modules: SimpleNamespace):
    recipe = modules.vidur_recipe
    rows = products((*recipe.PRODUCTS, (4096, 4096), (16384, 5120)))
    found = {(row["split"], row["recipe"]): row for row in recipe.compare(rows, trees=5)}
    assert {split for split, _ in found} == {"rows", "between", "beyond", "shapes"}
    for split in ("rows", "between", "beyond", "shapes"):
        ours, vidurs = found[split, "fastsim"], found[split, "vidur"]
        assert ours["rows"] == vidurs["rows"] > 0
        assert ours["trained"] > vidurs["trained"]
        assert ours["mean"] < 0.05
    # Forests of milliseconds do not go on beyond what they saw, and know no other shapes.
    assert found["beyond", "vidur"]["mean"] > 0.2
    assert (found["shapes", "vidur"]["trained"], found["shapes", "vidur"]["mean"]) == (0, None)


def test_builds_are_of_the_same_tables(modules: SimpleNamespace):
    recipe = modules.vidur_recipe
    ours, vidurs = recipe.build(products((*recipe.PRODUCTS, (4096, 4096))), trees=3)
    assert (ours["recipe"], ours["models"], vidurs["recipe"], vidurs["models"]) == ("fastsim", 1, "vidur", 4)
    assert ours["tabulated"] == vidurs["tabulated"] == 4 * 4096
    assert min(row[name] for row in (ours, vidurs) for name in ("train_s", "export_s", "tabulate_s", "onnx_bytes")) > 0


def test_learning_is_by_shares_of_the_points_of_many_shapes(modules: SimpleNamespace):
    profiles = modules.operator_profiles
    many, few = (products(tuple((1024 * n, 4096) for n in range(1, count))) for count in (26, 11))
    sources = [profiles.Source("vidur", device, "some", rows) for device, rows in (("a", few), ("b", many))]
    found = list(profiles.learning_rows(sources, 4))
    known = len(TOKENS) * 20
    assert [(row["device"], row["known"], row["trained"]) for row in found] == [
        ("b", known, count) for share in profiles.SHARES if (count := round(share * known)) >= profiles.LEAST
    ]
    assert max(found[0]["random"], found[0]["chosen"]) < 0.1


@pytest.mark.parametrize(
    ("operator", "mean", "median", "reached"),
    [
        ("gemm", 0.04, 0.025, True),
        ("gemm", 0.03, 0.026, False),
        ("moe", 0.1, 0.09, True),
        ("moe", 0.11, 0, False),
        ("latent_bmm", 0.01, 0, None),
    ],
)
def test_targets_are_of_unseen_shapes(
    modules: SimpleNamespace, operator: str, mean: float, median: float, reached: bool | None
):
    error = {"median": median, "mean": mean, "p95": 0.2, "bias": 0.0}
    found = modules.operator_errors.error_rows({"operator": operator}, 9, {"shapes": error, "rows": error})
    assert [(row["split"], row["rows"], row["reached"]) for row in found] == [("shapes", 9, reached), ("rows", 9, None)]


def write_products(path: Path) -> None:
    """Vidur's mlp.csv of Llama-2-7B on one and two GPUs: 1 us a token for each product."""
    names = ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj")
    keys = ("n_head", "n_kv_head", "n_embd", "n_expanded_embd", "use_gated_mlp", "num_tokens")
    lines = [",".join((*keys, "num_tensor_parallel_workers", *(f"time_stats.{name}.median" for name in names)))]
    for tp in (1, 2):
        lines += [f"32,32,4096,11008,True,{m},{tp}" + f",{0.02 + m / 1e3}" * len(names) for m in range(8, 513, 8)]
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress("\n".join(lines).encode()))


def test_profiles_are_found_and_errors_drawn(tmp_path: Path):
    write_products(tmp_path / "vidur" / "compute" / "a100" / "meta-llama" / "Llama-2-7b-hf" / "mlp.csv.gz")
    picture = tmp_path / "errors.html"
    code, printed, said = bench("operator_errors.py", "--profiles", tmp_path, "--plot", picture, "--smoke")
    assert (code, said) == (0, "vidur a100_sxm: gemm (512 rows)\n")
    own = [row for row in printed["rows"] if row["source"] == "vidur"]
    assert {(row["device"], row["operator"], row["rows"]) for row in own} == {("a100_sxm", "gemm", 64 * 8)}
    assert {row["split"] for row in own} == {"shapes", "between", "rows"}
    assert any(row["source"] == "zoo" and row["split"] == "shapes" for row in printed["rows"])
    assert printed["learning"] == []
    page = picture.read_text()
    assert "gemm: error on unseen shapes" in page
    assert "vidur a100_sxm bf16" in page
    assert "<polyline" not in page


def test_curves_are_drawn(tmp_path: Path, modules: SimpleNamespace):
    about = {"source": "vidur", "operator": "gemm", "known": 400}
    rows = [{**about, "device": device, "trained": n, "chosen": 4.0 / n} for device in "ab" for n in (40, 400)]
    modules.operator_plot.write_plot(tmp_path / "page.html", {"errors": [], "learning": rows})
    page = (tmp_path / "page.html").read_text()
    assert page.count("<polyline") == 2
    assert page.count("<circle") == 4


def test_layerwise_profiles_of_all_degrees_are_one(tmp_path: Path, modules: SimpleNamespace):
    for tp in (1, 2):
        write_profile(tmp_path / "RTX4090" / "meta-llama" / "Llama-3.1-8B", tp=tp)
    found = {source.rows.operator: source for source in modules.operator_profiles._layerwise(tmp_path)}
    assert set(found) == {"gemm", "prefill_attention", "decode_attention"}
    assert {source.device for source in found.values()} == {"rtx_4090"}
    widths: Any = found["gemm"].rows.columns["n"]
    assert {28672, 14336} <= set(widths)


def test_a_bad_picture_is_told_before_anything_is_trained(tmp_path: Path):
    assert "is no HTML file" in refusal("operator_errors.py", "--plot", tmp_path / "errors.png")
