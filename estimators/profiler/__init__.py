"""Measures operators on a device at hand, and makes a device of its own of it; torch is imported below here only.

Importing it, or anything of it but ``kernels`` and what is named after a library or device, does not import torch.
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
