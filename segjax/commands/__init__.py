"""The commands of `segjax`, one file each: describe(parser) names its flags, run(arguments) does it.

They are imported for every `segjax --help`, so what is heavy (jax, numpy, OpenCV) is imported within `run`.
"""
