"""Makes a small dataset builder importable as data_builders.toy, here and in other processes."""

import contextlib
from pathlib import Path

BUILDER = """
import dataclasses, os, time
import numpy as np
import tensorflow_datasets as tfds
from data_builders import records
from segjax.data.classes import class_table
from segjax.data.image_files import encode_png
from segjax.data.label_map import LabelMap

@dataclasses.dataclass(eq=False)
class Config(tfds.core.BuilderConfig):
    name: str = "default"
    count: int = 6
    size: int = 8
    labelled: tuple = (0, 2, 4)
    wait: float = 0.0
    log: str = ""
    source: str = ""
    flow: bool = False

    def fingerprint(self):
        return str(os.stat(self.source).st_mtime_ns) if self.source else ""

class Builder(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [Config(), Config(name="large", size=16)]

    def _info(self):
        flow = {
            "flow": tfds.features.Tensor(shape=(8, 8, 2), dtype=np.float32, encoding="bytes"),
            "flow_valid": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
        } if self.builder_config.flow else {}
        label_map = LabelMap(class_table("camvid"))
        return records.dataset_info(self, description="toy", label_map=label_map, extra_features=flow)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0), "test": self._generate_examples(1)}

    def _generate_examples(self, split):
        config = self.builder_config
        if config.log and split == 0:
            with open(config.log, "a") as file:
                file.write(f"{os.getpid()}\\n")
        rng = np.random.default_rng(split)
        for i in range(config.count):
            time.sleep(config.wait)
            if i == 3 and config.count == 13:
                raise OSError(28, "No space left on device")
            if i == 3 and config.count == 14:
                raise RuntimeError("write() failed: No space left on device; writing x")  # array_record's way
            image = rng.integers(0, 256, (config.size, config.size + i, 3), dtype=np.uint8)
            yield i, {
                "image": encode_png(image), "label": encode_png(image[..., 0] % 12), "name": f"v_{i:03d}",
                "sequence": "v", "frame": i, "height": config.size, "width": config.size + i,
                "labelled": i in config.labelled and split == 0,
                **({"flow": np.full((8, 8, 2), i, np.float32), "flow_valid": encode_png(np.eye(8, dtype=np.uint8))}
                   if config.flow else {}),
            }
"""


def add_toy_builder(folder: Path) -> None:
    """Writes the builder below a folder and adds that folder to the package data_builders."""
    import data_builders

    package = folder / "toy"
    if not package.is_dir():
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "toy_dataset_builder.py").write_text(BUILDER)
    data_builders.__path__.append(str(folder))


@contextlib.contextmanager
def importable_toy(folder):
    """Adds the toy builder to a folder, and the folder to those of `data_builders` while the block runs."""
    import data_builders

    before = list(data_builders.__path__)
    add_toy_builder(folder)
    try:
        yield folder
    finally:
        data_builders.__path__[:] = before
