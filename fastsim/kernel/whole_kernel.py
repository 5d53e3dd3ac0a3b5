"""Compiling a kernel as a whole: the functions that it calls are optimised once, together with it.

Numba has LLVM optimise each function by itself, links the outcome into every caller, and has all of it optimised again
there, and so on up to the function that Python calls: four fifths of the time to compile the event loop. Here a helper
is typed and lowered as ever but left as it is; the kernel that Python calls takes the helpers that it needs, each once,
and is then optimised like any function of numba's.
"""

from functools import cached_property

import numba
from numba._dynfunc import make_function
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.registry import CPUDispatcher


class HelperLibrary(JITCodeLibrary):
    """The code of one helper, not optimised and not made executable."""

    def _optimize_functions(self, ll_module):
        ll_module.data_layout = self._codegen._data_layout

    def finalize(self):
        """No more code comes."""
        self._raise_if_finalized()
        self._finalized = True

    def _get_module_for_linking(self):
        """The code with that of all callees, for a function of a user's own that calls the helper."""
        self._ensure_finalized()
        if self._shared_module is None:
            self._shared_module = self._final_module.clone()
            for library in _take_in(self._shared_module, self._linking_libraries, "linkonce_odr"):
                self._shared_module.link_in(library._get_module_for_linking(), preserve=True)
        return self._shared_module


class KernelLibrary(JITCodeLibrary):
    """The code of a kernel that Python calls, with that of all its helpers."""

    def finalize(self):
        """Take in the helpers, and optimise."""
        self._linking_libraries = _take_in(self._final_module, self._linking_libraries, "internal")
        super().finalize()


def _take_in(module, libraries, linkage):
    """Add the code of helpers and of what they call to a module, each once.

    Args:
        module: LLVM module, extended in place.
        libraries: those that it calls.
        linkage: of the functions added.

    Returns:
        The libraries among them that are not of helpers, and have not been added.
    """
    found, todo = dict.fromkeys(libraries), list(libraries)
    while todo:
        library = todo.pop()
        if isinstance(library, HelperLibrary):
            todo += [other for other in library._linking_libraries if other not in found]
            found |= dict.fromkeys(library._linking_libraries)
    helpers = [library for library in found if isinstance(library, HelperLibrary)]
    for library in helpers:
        library._ensure_finalized()
        module.link_in(library._final_module, preserve=True)
    for library in helpers:
        for function in library.get_defined_functions():
            module.get_function(function.name).linkage = linkage
    return [library for library in found if not isinstance(library, HelperLibrary)]


class KernelCompiler(Compiler):
    """Compiles a kernel that Python calls."""

    def compile_extra(self, func):
        """Compile ``func`` as a whole."""
        self.state.library = KernelLibrary(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(func)


class HelperCompiler(Compiler):
    """Compiles a function for kernels that call it."""

    def compile_extra(self, func):
        """Type and lower ``func``."""
        target, flags = self.state.targetctx, self.state.flags
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        self.state.library = HelperLibrary(target.codegen(), func.__qualname__)
        result = super().compile_extra(func)
        # What numba knows the function by: nobody can call it, as with every function that has no wrapper.
        module, name = result.fndesc.lookup_module(), result.fndesc.qualname
        known_by = make_function(module, name, "", 0, result.environment, (result.library,))
        target.insert_user_function(known_by, result.fndesc, [result.library])
        return result._replace(entry_point=known_by)


class Helper(CPUDispatcher):
    """A function that kernels call. Python may as well: then it is compiled once more, as a kernel."""

    @classmethod
    def of(cls, function, options):
        """What ``numba.njit(**options)(function)`` is for other functions; ``options`` name `HelperCompiler`."""
        target = {name: value for name, value in options.items() if name != "pipeline_class"}
        target |= {"nopython": True, "boundscheck": None}
        return cls(function, targetoptions=target, pipeline_class=options["pipeline_class"])

    def add_overload(self, cres):
        """Keep what was compiled, for callers that are compiled alone."""
        self.overloads[tuple(cres.signature.args)] = cres

    def _compile_for_args(self, *args, **kws):
        return self._kernel._compile_for_args(*args, **kws)

    @cached_property
    def _kernel(self):
        return numba.jit(pipeline_class=KernelCompiler, **self.targetoptions)(self.py_func)
