"""Vidur inside fastsim: its configuration files, and with ``parity="vidur"`` its exact rules, oddities included."""
