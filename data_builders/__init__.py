"""One TFDS builder per data set, in `<name>/<name>_dataset_builder.py`.

What segjax.data.open_source expects of a builder:

* `BUILDER_CONFIGS` holds instances of one dataclass derived from `tfds.core.BuilderConfig`. Its fields, all with
  defaults, are the options; the first instance holds the defaults, the others are presets (`{"config": name}`).
  A method `fingerprint() -> str`, when there is one, changes with the source files; options and fingerprint name
  the build.
* `_info` returns `records.dataset_info(...)`: the features that all data sets share, the label map in the metadata.
* `_generate_examples` yields paths or encoded bytes for images: TFDS encodes arrays only with TensorFlow. Labels hold
  raw ids. `VERSION` rises when the code writes other records.
"""
