"""The first steps of every command that computes."""


def start_jax() -> None:
    """Sets up memory, devices and logging; must run before the first array is made."""
    from segjax.ops.host_memory import reuse_freed_memory

    reuse_freed_memory()  # before jax starts its threads

    from absl import logging as absl_logging

    from segjax import parallel
    from segjax.errors import keep_interrupts

    keep_interrupts()

    absl_logging.set_verbosity(absl_logging.FATAL)  # orbax logs every detail of reading a checkpoint
    parallel.setup()
