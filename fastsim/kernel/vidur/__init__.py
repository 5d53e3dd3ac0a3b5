"""Vidur's event loop, oddities included: ``parity="vidur"``. It steps every request, and shares no rule with ours."""
