"""Measures operators on a device at hand, and makes a device of its own of it; torch is imported below here only."""
