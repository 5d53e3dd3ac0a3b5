"""What ``fastsim bench --out`` writes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: The last one says that all are there.
FILES = ("results.parquet", "index.html", "suite.json")


def write_results(document: Mapping[str, Any], directory: Path) -> None:
    """Write results.parquet, a row for each scenario, index.html and suite.json, which is the whole document.

    Each appears whole or not at all.

    Args:
        document: of a `SuiteResult`.
        directory: made where it does not exist.

    Raises:
        OSError: something cannot be written.
    """
    import polars as pl

    from estimators.files import replace_files
    from fastsim.suite.columns import COLUMNS
    from fastsim.suite.page import draw_page

    # A column without a single number has a type nevertheless.
    types: dict[str, Any] = {column.name: pl.Float64 for column in COLUMNS} | {
        "piles_up": pl.Boolean,
        "notes": pl.List(pl.String),
    }
    frame = pl.DataFrame(document["rows"], schema_overrides=types, infer_schema_length=None)
    page, text = draw_page(document).encode(), (json.dumps(document, indent=1) + "\n").encode()
    writers = (frame.write_parquet, lambda file: file.write(page), lambda file: file.write(text))
    replace_files({directory / name: write for name, write in zip(FILES, writers, strict=True)})
