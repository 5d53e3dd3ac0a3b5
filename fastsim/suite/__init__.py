"""A benchmark that others can repeat: workloads, batch policies, models and devices, each with each other.

`fastsim.suite.scenarios` has the scenarios, `fastsim.suite.running` runs them, and `fastsim.suite.files` writes what
``fastsim bench`` leaves behind.
"""
