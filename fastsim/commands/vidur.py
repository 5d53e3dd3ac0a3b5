"""``fastsim run --vidur-config``: a configuration of Vidur as defaults for our flags."""

from collections.abc import Sequence
from typing import Any

#: Flags of the workload that a trace has of its own.
_GENERATED = ("requests", "qps", "arrivals", "lengths")
_KINDS = ("scheduler", "router", "parity")


def read_vidur(path: str, words: Sequence[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]], tuple[str, ...]]:
    """Defaults for the flags, the fields of the choices, and notes on what was replaced or left out.

    Args:
        path: the file.
        words: the whole command line: ``--parity`` changes what the file means, ``--trace`` replaces its generators.

    Raises:
        ConfigError: the file cannot be read or says what cannot be done, or names a trace that nobody replaces.
    """
    from fastsim.vidur.config_file import VidurFile
    from fastsim.vidur.workload import EMBEDDED

    given = {word.removeprefix("--").partition("=")[0] for word in words if word.startswith("--")}
    replaced = {flag for flag in ("arrivals", "lengths", "trace") if given & {flag, "trace"}}
    settings = VidurFile(path).settings(parity="parity" in given)
    traffic = settings.traffic
    for flag, error in traffic.missing.items():
        if flag not in replaced and f"{flag}.path" not in given:
            raise error
    embedded = traffic.flags.get("lengths") in EMBEDDED.values()
    if embedded and "lengths.path" in given:
        # The file of which we have the quantiles is here after all.
        traffic.flags["lengths"] = "trace"
        traffic.options["lengths"] = {"max_total": settings.serving["max_model_len"]}
        replaced.add("lengths")
    notes = settings.notes if "lengths" in replaced else (*traffic.notes, *settings.notes)
    defaults = settings.serving | traffic.flags
    options = {group: dict(traffic.options.get(group, {})) for group in ("arrivals", "lengths", "trace")}
    options |= {kind: dict(defaults.pop(f"{kind}_options", {})) for kind in _KINDS}
    if "trace" in given:
        # The same trace elsewhere, or one in place of the generators.
        defaults = {name: value for name, value in defaults.items() if name not in (*_GENERATED, "trace")}
        options |= {"arrivals": {}, "lengths": {}}
    return {name: value for name, value in defaults.items() if value is not None}, options, notes
