"""The commands of ``fastsim``: each module's ``main(words) -> exit code``."""
