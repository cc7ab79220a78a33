"""The files of a TFDS dataset: serialized records, array_record files (complete or absent), the description."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segjax.files import replacing


def make_serializer(features: Any) -> Callable[[Mapping[str, Any]], bytes]:
    """Returns a function from a record to the bytes that TFDS reads; the bytes are the same in every process."""
    from tensorflow_datasets.core import example_serializer
    from tensorflow_datasets.proto import tf_example_pb2

    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())

    def serialize(record: Mapping[str, Any]) -> bytes:
        data = serializer.serialize_example(features.encode_example(dict(record)))
        # protobuf writes the features in an order of its own in every process, unless it is deterministic
        return tf_example_pb2.Example.FromString(data).SerializeToString(deterministic=True)

    return serialize


def write_shard(path: Path, records: Iterable[bytes]) -> int:
    """Writes one array_record file, which appears by one rename. Returns the number of bytes of its records."""
    from array_record.python.array_record_module import ArrayRecordWriter

    size = 0
    with replacing(path) as part:
        writer = ArrayRecordWriter(str(part), "group_size:1")
        try:
            for data in records:
                size += len(data)
                writer.write(data)
        finally:
            writer.close()
    return size


def shard_name(dataset: str, split: str, number: int, count: int) -> str:
    """Returns the file name of shard `number` of `count`, as TFDS expects it."""
    return f"{dataset}-{split}.array_record-{number:05d}-of-{count:05d}"


def write_info(
    info: Any, folder: Path, dataset: str, lengths: Mapping[str, Sequence[int]], sizes: Mapping[str, int]
) -> None:
    """Writes a DatasetInfo beside its shards.

    info: tfds.core.DatasetInfo. folder: that of the shards. dataset: name.
    lengths: split -> number of records of every shard.
    sizes: split -> bytes of its records.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import file_adapters

    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=dataset, filetype_suffix="array_record", split=None
    )
    splits = [
        tfds.core.SplitInfo(
            name=split,
            shard_lengths=list(shards),
            num_bytes=sizes[split],
            filename_template=template.replace(split=split),
        )
        for split, shards in lengths.items()
    ]
    info.set_file_format(file_adapters.FileFormat.ARRAY_RECORD)
    info.set_splits(tfds.core.splits.SplitDict(splits))
    info.write_to_directory(folder)
