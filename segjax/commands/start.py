"""What every command that computes does first."""


def start_jax() -> None:
    """Sets up memory, devices and logging; before the first array."""
    from segjax.ops.host_memory import reuse_freed_memory

    reuse_freed_memory()  # before jax starts its threads

    from absl import logging as absl_logging

    from segjax import parallel

    absl_logging.set_verbosity(absl_logging.FATAL)  # orbax tells every detail of reading a checkpoint
    parallel.setup()
