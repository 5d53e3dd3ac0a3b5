"""Profiles in: one reader per public source of operator measurements."""
