"""One TFDS builder per dataset, in `<name>/<name>_dataset_builder.py`.

`segjax.data.open_source` requires of a builder:

* The module's docstring has a first line that describes the dataset; `segjax datasets` prints it.
* `BUILDER_CONFIGS` contains instances of one dataclass derived from `tfds.core.BuilderConfig`. Its fields, all with
  defaults, are the options. The first instance has the defaults, the others are presets (`{"config": name}`). An
  optional method `fingerprint() -> str` changes with the source files. Options and fingerprint name the build.
* `_info` returns `records.dataset_info(...)`: the features that all datasets share, and the label map as metadata.
* `_generate_examples` yields paths or encoded bytes for images, because TFDS encodes arrays only with TensorFlow.
  Labels contain raw ids. `VERSION` rises when the code writes other records.
"""
