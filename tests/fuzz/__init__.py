"""Fuzz: whatever a configuration, a workload or a file says, there is a result or one sentence about what is wrong."""
