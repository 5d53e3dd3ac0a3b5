"""Reading ``A:B``."""

import math

import pytest

from fastsim.errors import ConfigError
from fastsim.export.window import Window, read_window


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("60:75", (60.0, 75.0)),
        ("0.5:1e3", (0.5, 1000.0)),
        (":75", (0.0, 75.0)),
        ("60:", (60.0, math.inf)),
        (":", Window()),
    ],
)
def test_windows(text: str, window: tuple[float, float]):
    assert read_window("trace_window", text) == window


@pytest.mark.parametrize("text", ["", "60", "75:60", "60:60", "a:b", "-1:5", "nan:5", "1:2:3"])
def test_what_is_no_window(text: str):
    with pytest.raises(ConfigError, match="trace_window") as refused:
        read_window("trace_window", text)
    assert refused.value.field == "trace_window"
