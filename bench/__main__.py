"""The record: figures that the documentation claims, measured in one go, and the page that is made of it.

    python -m bench all --json > docs/record.json    # on a machine that does nothing else
    python -m bench parity fidelity [--smoke]        # some of them
    python -m bench table docs/record.json           # writes docs/record.md, and the table of README.md

Measured runs, traces and profiles of others are looked for in ``--data DIR`` (../shared if not given), which holds
``golden`` and ``data``; benches that need what is not there are left out, and named.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # benches are scripts, which import their neighbours

from common import emit, note
from record_page import page_of, readme_of
from registry import BENCHES, run

ROOT = Path(__file__).resolve().parents[1]
PAGE, README = ROOT / "docs" / "record.md", ROOT / "README.md"


def main(words: list[str] | None = None) -> int:
    """Run benches or write the page; returns the exit code: 1 where a bench failed."""
    known = {bench.name: bench for bench in BENCHES}
    parser = argparse.ArgumentParser(prog="python -m bench", description="the figures that the documentation claims")
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"all, or some of {', '.join(known)}; or table RECORD")
    parser.add_argument("--json", action="store_true", help="print the record, and nothing else")
    parser.add_argument("--smoke", action="store_true", help="small sizes: do they run?")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared", help="folder of golden/ and data/")
    options = parser.parse_args(words)
    if options.names[0] == "table":
        return _write_page(options.names[1:])
    names = list(known) if options.names == ["all"] else options.names
    if unknown := [name for name in names if name not in known]:
        note(f"{unknown[0]} is no bench of the record: choose all, or some of {', '.join(known)}")
        return 2
    record = run([known[name] for name in names], options.data, options.smoke)
    if options.json:
        print(dumped(record))
    else:
        emit(record["rows"], False)
    for why in ("skipped", "failed"):
        for name, reason in record[why].items():
            note(f"{name} {why}: {reason}")
    return 1 if record["failed"] else 0


def dumped(record: dict[str, object]) -> str:
    """A record as JSON, a row on each line, so that changes of it can be read."""
    rows = ",\n".join(json.dumps(row) for row in record["rows"])  # type: ignore[attr-defined]
    head = json.dumps({name: value for name, value in record.items() if name != "rows"}, indent=1)
    return f'{head[:-2]},\n "rows": [\n{rows}\n]\n}}'


def _write_page(files: list[str]) -> int:
    try:
        (file,) = files
        record = json.loads(Path(file).read_text(encoding="utf-8"))
        page, readme = page_of(record), readme_of(README.read_text(encoding="utf-8"), record)
    except (OSError, ValueError, KeyError, TypeError) as error:
        note(f"table takes one file that python -m bench all --json has printed ({error})")
        return 2
    PAGE.write_text(page, encoding="utf-8")
    README.write_text(readme, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
