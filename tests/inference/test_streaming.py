"""Labels of a stream: the same as of snippets frame by frame, keyframes, resets, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import augment, models, ops
from segjax.errors import UserError
from segjax.inference.network import Network
from segjax.inference.streaming import StreamSegmenter
from segjax.models.video_segmenter import VideoSegmenter, example_frames
from tests.tiny_network import Tiny

K, SIZE = 5, (40, 56)


def frames(count=5, size=SIZE):
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)


def network(name="gsvnet"):
    if name == "image":
        module, inputs = Tiny(K), (jnp.zeros((1, 64, 64, 3)),)
    else:
        module = VideoSegmenter(Tiny(K), models.create_propagation(name, K), 0.75)
        inputs = example_frames(module)
    variables = jax.jit(module.init)(jax.random.key(0), *inputs)
    spec = {"name": "fastscnn" if name == "image" else name, "num_classes": K, "options": {}}
    spec |= {} if name == "image" else {"keyframe": {"spec": {"name": "tiny"}, "scale": 0.75}}
    return Network(spec, module, variables, "imagenet", None, 0, {})


@pytest.fixture(scope="module")
def video():
    return network()


def by_hand(network, images):
    """Class ids of the last frame, from a keyframe at the first."""
    mean, std = augment.normalisation("imagenet")
    logits = network.module.apply(network.variables, augment.normalise(images[None], mean=mean, std=std))
    return np.argmax(ops.resize(logits, images.shape[1:3], align_corners=True), -1)[0]


def test_a_stream_is_its_clips(video):
    images = frames(5)
    stream = StreamSegmenter(video, 3)
    found = [stream(frame) for frame in images]
    expected = [by_hand(video, images[start : end + 1]) for start, end in ((0, 0), (0, 1), (0, 2), (3, 3), (3, 4))]
    for one, two in zip(found, expected):
        assert one.dtype == np.uint8 and one.shape == SIZE
        assert (one == two).mean() > 0.998  # resizing before normalising rounds differently
    assert (stream.counts.frames, stream.counts.keyframes, stream.counts.resets) == (5, 2, 0)
    again = list(StreamSegmenter(video, 3).labels(iter(images)))
    np.testing.assert_array_equal(again, found)


def test_reset_and_another_size_start_with_a_keyframe(video):
    images = frames(3)
    stream = StreamSegmenter(video, 4)
    first = stream(images[0])
    stream(images[1])
    stream.reset()
    np.testing.assert_array_equal(stream(images[0]), first)
    assert stream.counts.keyframes == 2
    other = stream(frames(1, (24, 33))[0])
    assert other.shape == (24, 33) and stream.counts.keyframes == 3 and stream.counts.resets == 1
    np.testing.assert_array_equal(stream(images[0]), first)
    assert stream.counts.resets == 2


def test_every_frame_is_a_keyframe_of_an_image_network():
    one = network("image")
    stream = StreamSegmenter(one, 1)
    images = frames(2)
    for frame in images:
        np.testing.assert_array_equal(stream(frame), one.predictor()(frame[None])[0])
    assert stream.counts.keyframes == stream.counts.frames == 2


def test_programs_are_compiled_once_and_before_the_first_frame(video):
    stream = StreamSegmenter(video, 2)
    stream.prepare(SIZE)
    with jax.log_compiles(False), pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "jit", None)  # nothing is compiled any more
        assert stream(frames(1)[0]).shape == SIZE


@pytest.mark.parametrize("interval", [0, -1, 1.5, "4", "atuo", True])
def test_wrong_intervals(video, interval):
    with pytest.raises(UserError, match="must be a whole number of 1 or more"):
        StreamSegmenter(video, interval)


def test_an_image_network_carries_nothing_on():
    with pytest.raises(UserError, match="interval=4 needs a network that carries labels on, and fastscnn"):
        StreamSegmenter(network("image"), 4)
    with pytest.raises(UserError, match="interval=auto needs a network that carries labels on, and fastscnn"):
        StreamSegmenter(network("image"), "auto")


def test_the_scale_is_that_of_an_image_network(video):
    frame, image = frames(1)[0], network("image")
    ids = StreamSegmenter(image, 1, scale=0.5)(frame)
    np.testing.assert_array_equal(ids, np.asarray(image.predictor(scales=(0.5,))(frame[None]))[0])
    with pytest.raises(UserError, match="scale=0.5 is of image networks; .* has its own keyframe.scale"):
        StreamSegmenter(video, 1, scale=0.5)


def test_frames_are_uint8_colour_images(video):
    for bad in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)):
        with pytest.raises(UserError, match="is no uint8"):
            StreamSegmenter(video, 1)(bad)
