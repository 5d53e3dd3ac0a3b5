"""Fuzz at length: ``python -m tests.fuzz.campaign --cases 50000 --seed 1 --out FILE`` runs every target that often.

Targets run in processes of their own, with a bound on memory, and a case that takes longer than a minute is a fault as
much as one that raises what is no sentence or kills its process. FILE keeps what has run, and a campaign that is
started again goes on.
"""

import argparse
import contextlib
import faulthandler
import json
import math
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "fastsim")]

import fuzz.command_targets  # noqa: E402
import fuzz.estimator_targets  # noqa: E402
import fuzz.simulation_targets  # noqa: E402, F401
from fuzz.file_targets import TARGETS  # noqa: E402

_BATCH, _SLOW_S, _MEMORY_BYTES = 1000, 60, 12 << 30
#: How a case may end.
RESULT, SENTENCE, NOT_RUN = "a result", "one sentence", "not run"
#: Of which a case takes a third of a second: they run a tenth as often.
LONG = ("report_of_a_run", "report_of_a_search", "explanation_of_a_run", "onnx_graph")


def outcome_of(name: str, seed: int) -> str:
    """Run one case: `RESULT`, `SENTENCE`, `NOT_RUN` where its target leaves it, or what it raised, and where."""
    place = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = TARGETS[name](random.Random(f"{name} {seed}"), place)
    except ValueError as error:
        sentence = str(error)
        if not all(hasattr(error, part) for part in ("field", "value", "mend")):
            return _told(error)
        if not sentence.isprintable() or not sentence.endswith(".") or len(sentence) > 7000:
            return f"not one sentence: {sentence[:200]!r}"
        return SENTENCE
    except Exception as error:
        return _told(error)
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        return _told(error)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return NOT_RUN if found is None else RESULT


def _told(error: BaseException) -> str:
    """The kind of an error and where it was raised, the same for the same fault."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if str(ROOT) in frame.filename]
    own = [frame for frame in frames if "/tests/" not in frame.filename] or frames
    where = [f"{Path(frame.filename).relative_to(ROOT)}:{frame.lineno}" for frame in own[-3:]]
    return f"{type(error).__name__}: {re.sub(r'[0-9]+', '#', str(error))[:120]} at {' > '.join(where)}"


def _work(name: str, seeds: range) -> None:
    """Run cases, and print a line for each fault; the process ends where one hangs."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    outcome_of(name, -1)  # what a first case alone imports and makes takes long on a busy machine
    for seed in seeds:
        print(json.dumps({"at": seed}), flush=True)
        faulthandler.dump_traceback_later(_SLOW_S, exit=True)
        outcome = outcome_of(name, seed)
        faulthandler.cancel_dump_traceback_later()
        if outcome not in (RESULT, SENTENCE, NOT_RUN):
            print(json.dumps({"seed": seed, "fault": outcome}), flush=True)


def _batch(name: str, seeds: range) -> list[dict[str, object]]:
    """The faults of some cases, run by as many processes as it takes."""
    faults: list[dict[str, object]] = []
    while seeds:
        words = [sys.executable, "-m", "tests.fuzz.campaign", "--work", name, str(seeds.start), str(seeds.stop)]
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=False)
        told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]
        faults += [one for one in told if "fault" in one]
        if done.returncode == 0:
            break
        last = max((one["at"] for one in told if "at" in one), default=seeds.start)
        said = " | ".join(line.strip() for line in done.stderr.splitlines() if line.strip())[-600:]
        faults.append({"seed": last, "fault": f"the process ended with {done.returncode}: {said}"})
        seeds = range(last + 1, seeds.stop)
    return faults


def main() -> int:
    """Run what has not run, print counts and distinct faults; the exit code is 1 where there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=50_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    parser.add_argument("--out", type=Path, default=Path("fuzz.jsonl"), help="what has run, a line for each batch")
    parser.add_argument("--target", action="append", help="run this one only; may be repeated")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        name, start, stop = options.work
        _work(name, range(int(start), int(stop)))
        return 0
    names = options.target or list(TARGETS)
    shares = {name: 0.1 if name in LONG else 1.0 for name in names}
    each = {name: math.ceil(options.cases * share / sum(shares.values())) for name, share in shares.items()}
    ran = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    known = {(one["target"], one["start"]) for one in ran}
    for start in range(options.seed, options.seed + max(each.values()), _BATCH):
        for name in names:
            seeds = range(start, min(start + _BATCH, options.seed + each[name]))
            if not seeds or (name, start) in known:
                continue
            began = time.monotonic()
            line = {"target": name, "start": start, "cases": len(seeds), "faults": _batch(name, seeds)}
            ran.append(line | {"wall_s": round(time.monotonic() - began, 1)})
            with options.out.open("a") as file:
                file.write(json.dumps(ran[-1]) + "\n")
    counts, distinct = Counter[str](), Counter[str]()
    for one in ran:
        counts[one["target"]] += one["cases"]
        distinct.update(f"{one['target']}: {fault['fault']}" for fault in one["faults"])
    for name, count in counts.items():
        print(f"{name:32}{count:8,}")
    print(f"{'all':32}{counts.total():8,} cases, {distinct.total():,} faults, {len(distinct):,} kinds")
    for fault, count in distinct.most_common():
        print(f"{count:6,}  {fault}")
    return 1 if distinct else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
