"""Measures operators on a device at hand, and makes a device of its own of it; torch is imported below here only.

Importing it does not import torch; what runs on a device does, and is imported where it is needed.
"""

from estimators.profiler.campaign import Progress
from estimators.profiler.points import Limits, Point, candidates
from estimators.profiler.report import OperatorReport, ProfileReport
from estimators.profiler.run import ProfileOptions, profile, profile_with

__all__ = [
    "Limits",
    "OperatorReport",
    "Point",
    "ProfileOptions",
    "ProfileReport",
    "Progress",
    "candidates",
    "profile",
    "profile_with",
]
