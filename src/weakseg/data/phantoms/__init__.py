"""Made data sets, written in the layouts of real ones."""

from __future__ import annotations

from importlib import import_module

from threadpoolctl import threadpool_limits

from weakseg.execution import Context


def run(context: Context) -> None:
    """Write the data set of the generator ``params["phantom"]``, a module of this package.

    Raises:
        WeaksegError: the generator cannot make it with these parameters.
    """
    params = context.params
    generator = import_module(f"{__name__}.{params['phantom']}")
    # The last bits of BLAS depend on the number of its threads: one, so that the same seed gives the same bytes.
    with threadpool_limits(1, user_api="blas"):
        generator.write(
            context.out,
            data_seed=params["data_seed"],
            cases=params["cases"],
            shape=tuple(params["shape"]),
            shifted=params["shifted"],
            workers=context.threads,
        )
    context.count("cases", params["cases"])
