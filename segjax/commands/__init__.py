"""The commands of `segjax`, one file each: describe(parser) adds its flags, run(arguments) runs it.

Every `segjax --help` imports all of them. So heavy packages (jax, numpy, OpenCV) are imported in `run`.
"""
