"""Clients, delays, prefix caching and engines: the kernel equals the reference simulator to the last bit."""

from comparisons import assert_equal
from hypothesis import given, settings
from kernel_cases import Case, cases, run_kernel
from reference.simulate import simulate as reference_simulate
from reference_tests.feature_cases import FEATURES

from fastsim.kernel.jit import DISABLED

EXAMPLES = 60 if DISABLED else 300


@settings(max_examples=EXAMPLES)
@given(cases(features=FEATURES))
def test_clients_and_engines_equal_the_reference(case: Case):
    assert_equal(case, run_kernel(case), reference_simulate(case.requests, case.tables, case.config))
