"""How wrong estimators of single operators are on what they have not seen.

    python bench/operator_errors.py [--profiles DIR] [--json] [--plot FILE.html]

* ``zoo``: the package's own, by the reports that training stored in them (tables of aiconfigurator).
* ``vidur``, ``layerwise``: the same recipe trained here on other profiles, in DIR/vidur (laid out like Vidur's
  data/profiling) and DIR/llmservingsim; of operators with too few shapes no shapes are held out.
* ``learning``: mean errors on the same fifth of the shapes after training on ever fewer of the other points, drawn at
  ``random`` or ``chosen`` far apart, of these profiles and of aiconfigurator's of the H100.
* ``recipes``, ``builds``: Vidur's own recipe beside ours on its A100 profiles, see vidur_recipe.py.

All but the first need the package's extra ``profiles``. ``error`` is |predicted / measured - 1|.
"""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import vidur_recipe
from common import Row, emit, figure, note, parser
from operator_plot import write_plot
from operator_profiles import Source, aiconfigurator, learning_rows, profiled

from estimators import EstimatorError
from estimators.estimator import describe, list_zoo
from estimators.held_out import hold_out
from fastsim.errors import ConfigError
from fastsim.svg import check_html

#: What is to be reached on shapes not trained on: mean error, and of products the median too.
TARGETS = {
    **{name: 0.05 for name in ("prefill_attention", "decode_attention", "latent_prefill", "latent_decode")},
    **{"gemm": 0.04, "all_reduce": 0.08, "moe": 0.10},
}
MEDIANS = {"gemm": 0.025}


def zoo_rows() -> Iterator[Row]:
    """What the estimators of the package say of themselves."""
    for device, dtype in list_zoo():
        for operator, about in describe(device, dtype).items():
            who = {"source": "zoo", "engine": about["engine"], "device": device, "dtype": dtype, "operator": operator}
            yield from error_rows(who, about["rows"]["used"], about["held_out_errors"])


def error_rows(who: Row, count: int, errors: dict[str, dict[str, Any]]) -> Iterator[Row]:
    """A row for each split; ``reached`` where a target is for it."""
    for split, error in errors.items():
        row = {
            **who,
            "split": split,
            "rows": count,
            **{name: error[name] for name in ("median", "mean", "p95", "bias")},
        }
        yield row | {"reached": reached(row) if split == "shapes" else None}


def reached(row: Row) -> bool | None:
    """Whether errors on unseen shapes are as small as is asked of them; None where nothing is."""
    operator = row["operator"]
    if operator not in TARGETS:
        return None
    return bool(row["mean"] <= TARGETS[operator] and row["median"] <= MEDIANS.get(operator, 1.0))


def held_out_rows(sources: Iterable[Source]) -> Iterator[Row]:
    """Errors of estimators that are trained here."""
    for source in sources:
        note(f"{source.name} {source.device}: {source.rows.operator} ({source.rows.seconds.size} rows)")
        errors = hold_out(source.rows, "forest", 0).errors
        who = {"source": source.name, "engine": source.engine, "device": source.device, "dtype": "bf16"}
        yield from error_rows({**who, "operator": source.rows.operator}, source.rows.seconds.size, errors)


def measure(profiles: Path | None, smoke: bool) -> dict[str, list[Row]]:
    """All tables; the first alone without profiles."""
    tables = {"errors": list(zoo_rows())}
    if profiles is None:
        return tables
    sources = list(profiled(profiles))[: 1 if smoke else None]
    tables["errors"] += held_out_rows(sources)
    learning = sources if smoke else chain(sources, aiconfigurator())
    tables["learning"] = list(learning_rows(learning, 1 if smoke else 4))
    trees = vidur_recipe.SMOKE_TREES if smoke else vidur_recipe.TREES
    tables |= {"recipes": [], "builds": []}
    for source in sources:
        if (source.name, source.device) == ("vidur", "a100_sxm") and vidur_recipe.target(source.rows).any():
            note(f"both recipes: {source.rows.operator}")
            tables["recipes"] += vidur_recipe.compare(source.rows, trees)
            tables["builds"] += vidur_recipe.build(source.rows, trees)
    return tables


def record(printed: Row) -> Iterator[Row]:
    """Rows of the record: errors of the estimators of the package."""
    for name in ("mean", "median"):
        rows = [row for row in printed["rows"] if row["source"] == "zoo" and row["split"] != "rows"]
        for row in sorted(rows, key=lambda row: (row["operator"], row["dtype"], row["split"])):
            who = f"{row['operator']}, {row['dtype']}, {row['split']}"
            yield figure(f"{name.capitalize()} absolute error", who, row["device"], row[name], "%")


def main() -> int:
    """Print the tables; returns the exit code."""
    arguments = parser("errors of operator estimators")
    arguments.add_argument("--profiles", type=Path, help="directory with vidur/ and llmservingsim/ in it")
    arguments.add_argument("--plot", type=Path, help="HTML file to draw the errors and learning curves into")
    options = arguments.parse_args()
    try:
        if options.plot:
            check_html("--plot", options.plot)
        tables = measure(options.profiles, options.smoke)
    except (ConfigError, EstimatorError) as error:
        note(str(error))
        return 2
    if options.plot:
        write_plot(options.plot, tables)
    if options.json:
        emit(tables.pop("errors"), True, **tables)
    else:
        emit([{"table": name} | row for name, rows in tables.items() for row in rows], False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
