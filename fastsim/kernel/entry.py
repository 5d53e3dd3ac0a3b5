"""The entry for other people's code, Python or compiled: a run of the event loop, and back to where it began."""

from numba.core import cgutils
from numba.extending import intrinsic, overload

from fastsim.kernel.slots import RESTART, RUN, compiled


def run(state, tables, policies):
    """Simulate until every request has completed; the state is modified in place.

    It is compiled, or loaded from the cache, when it is first called, or when code that calls it is compiled.

    Args:
        state: `fastsim.kernel.state.State`.
        tables: float64 [size], how long iterations take [s].
        policies: the batch policy and the router.

    Returns:
        0 when all have completed; the other statuses are in `fastsim.kernel.state`.
    """
    return compiled("loop:run", RUN)(state, tables, policies)


def reset(state, start):
    """Bring a state back to another one, in place, for the next run.

    Args:
        state: `fastsim.kernel.state.State` to change.
        start: what `fastsim.kernel.prepare.copy_state` made of it before its first run.
    """
    compiled("restart:restart", RESTART)(state, start)


def _call_where_it_is(kernel, kernel_signature):
    """An intrinsic that calls a kernel at its address.

    Numba would copy a function that it is told of into its caller and optimise all of it again: for the event loop that
    takes many times as long as compiling the caller.
    """

    def generate(context, builder, signature, arguments):
        found = compiled(kernel, kernel_signature).get_compile_result(kernel_signature)
        address = found.library.get_pointer_to_function(found.fndesc.llvm_func_name)
        called = (signature.return_type, signature.args)
        pointer = context.add_dynamic_addr(builder, address, info=kernel)
        pointer = builder.bitcast(pointer, context.call_conv.get_function_type(*called).as_pointer())
        status, result = context.call_conv.call_function(builder, pointer, *called, arguments)
        with cgutils.if_unlikely(builder, status.is_error):  # what a policy of the user's own raised
            context.call_conv.return_status_propagate(builder, status)
        return result

    return generate


@intrinsic
def _run(_, state, tables, policies):
    """`run` in compiled code."""
    return RUN, _call_where_it_is("loop:run", RUN)


@intrinsic
def _reset(_, state, start):
    """`reset` in compiled code."""
    return RESTART, _call_where_it_is("restart:restart", RESTART)


@overload(run)
def _run_compiled(state, tables, policies):
    return lambda state, tables, policies: _run(state, tables, policies)


@overload(reset)
def _reset_compiled(state, start):
    return lambda state, start: _reset(state, start)
