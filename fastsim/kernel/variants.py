"""The event loop for one kind of replica and of client each: what a run does not need is not compiled.

`fastsim.kernel.loop.run` is for all of them; these have its arguments and results.
"""

from fastsim.kernel.advance import AHEAD, LOCKSTEP, ONE_STAGE, SLOTS, STAGES
from fastsim.kernel.loop import with_clients, without_clients


def one_stage(state, tables, policies):
    """One stage, scheduled synchronously."""
    return without_clients(state, tables, policies, ONE_STAGE)


def one_stage_clients(state, tables, policies):
    """The same where completions make clients send requests."""
    return with_clients(state, tables, policies, ONE_STAGE)


def ahead(state, tables, policies):
    """One stage, scheduled asynchronously."""
    return without_clients(state, tables, policies, AHEAD)


def ahead_clients(state, tables, policies):
    """The same where completions make clients send requests."""
    return with_clients(state, tables, policies, AHEAD)


def stages(state, tables, policies):
    """Several stages."""
    return without_clients(state, tables, policies, STAGES)


def stages_clients(state, tables, policies):
    """The same where completions make clients send requests."""
    return with_clients(state, tables, policies, STAGES)


def slots(state, tables, policies):
    """Several stages with requests of their own."""
    return without_clients(state, tables, policies, SLOTS)


def slots_clients(state, tables, policies):
    """The same where completions make clients send requests."""
    return with_clients(state, tables, policies, SLOTS)


def lockstep(state, tables, policies):
    """Data-parallel engines in lockstep."""
    return without_clients(state, tables, policies, LOCKSTEP)


def lockstep_clients(state, tables, policies):
    """The same where completions make clients send requests."""
    return with_clients(state, tables, policies, LOCKSTEP)
