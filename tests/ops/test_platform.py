"""Programs made on the CPU for other platforms contain the lowerings of those, whatever was traced before."""

import re
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export, lax

from segjax import models
from segjax.losses import relaxed_cross_entropy
from segjax.metrics import confusion_matrix
from segjax.ops import conv2d, conv_transpose2d, for_platform, made_for, platform, resize, textbook_convolutions
from segjax.ops.fence import fenced

ELSEWHERE = ("tpu", "cuda")
FENCE = 'inlineable = "false"'


def convolution(kernel, size=(2, 9, 12), **options):
    channels = kernel[2] * options.get("groups", 1)
    return lambda x, w: conv2d(x, w, **options), ((*size, channels), kernel)


# name -> function, shapes of its arguments, convolutions in the CPU's forward pass
OPS = {
    "depthwise": (*convolution((3, 3, 1, 6), padding=1, groups=6), 0),
    "depthwise with stride": (*convolution((3, 3, 1, 6), padding=1, groups=6, stride=2), 0),
    "grouped": (*convolution((3, 3, 8, 256), padding=1, groups=32), 4),
    "pointwise": (*convolution((1, 1, 8, 5)), 0),
    "stem": (*convolution((3, 3, 3, 8), padding=1, stride=2), 0),
    "dense": (*convolution((3, 3, 64, 128), padding=1), 1),
    "dilated": (*convolution((3, 3, 8, 8), padding=2, dilation=2), 1),
    "mostly padding": (*convolution((3, 3, 512, 512), (1, 12, 16), padding=6, dilation=6), 0),
    "transposed": (lambda x, w: conv_transpose2d(x, w, stride=2, padding=1), ((2, 5, 7, 8), (4, 4, 8, 3)), 4),
}


def arguments(shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1])), jnp.float32) for shape in shapes]


def gradient(function):
    def loss(*args):
        return jnp.sum(jnp.sin(function(*args)))

    return lambda *args: jax.value_and_grad(loss, tuple(range(len(args))))(*args)


def exported(function, *args, platforms):
    """Text of the program that jax.export makes of a function, or of one that is jitted already."""
    jitted = function if hasattr(function, "lower") else jax.jit(function)
    return export.export(jitted, platforms=platforms)(*args).mlir_module()


def count(text, operation):
    return len(re.findall(rf"stablehlo\.{operation}\b", text))


@pytest.mark.parametrize("target", ELSEWHERE)
@pytest.mark.parametrize("name", OPS)
def test_convolutions_are_left_to_xla_elsewhere(name, target):
    """But for narrow groups on a TPU: bundles of 128 channels."""
    function, shapes, _ = OPS[name]
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    forward = exported(for_platform(function, target), *args, platforms=[target])
    backward = exported(for_platform(gradient(function), target), *args, platforms=[target])
    each = 2 if (name, target) == ("grouped", "tpu") else 1
    assert (count(forward, "convolution"), count(backward, "convolution")) == (each, 3 * each)
    assert FENCE not in forward + backward
    assert count(forward + backward, "dot_general") == 0


@pytest.mark.parametrize("name", OPS)
def test_the_program_for_the_cpu_is_the_one_made_without_a_platform(name):
    function, shapes, convolutions = OPS[name]
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    assert count(exported(function, *args, platforms=["cpu"]), "convolution") == convolutions
    for program in (function, gradient(function)):
        plain, named, other = (
            without_addresses(jax.make_jaxpr(f)(*args))
            for f in (program, for_platform(program, "cpu"), for_platform(program, "tpu"))
        )
        assert plain == named
    # XLA's own convolution needs no other gradient either
    assert (plain == other) == (name == "dilated")


def without_addresses(jaxpr):
    return re.sub(r"0x[0-9a-f]+", "", str(jaxpr))


@pytest.mark.parametrize("name", OPS)
def test_both_lowerings_agree(name):
    function, shapes, _ = OPS[name]
    args = arguments(shapes)
    ours, theirs = (jax.jit(for_platform(gradient(function), target))(*args) for target in ("cpu", "tpu"))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("align_corners", [False, True])
def test_bilinear_resizes_are_products_elsewhere(align_corners):
    def enlarge(x):
        return resize(x, (12, 20), align_corners=align_corners)

    x = arguments([(2, 6, 8, 5)])[0]
    texts = {target: exported(for_platform(enlarge, target), x, platforms=[target]) for target in ("cpu", *ELSEWHERE)}
    assert {target: count(text, "dot_general") for target, text in texts.items()} == {"cpu": 0, "tpu": 2, "cuda": 2}
    np.testing.assert_allclose(jax.jit(for_platform(enlarge, "tpu"))(x), jax.jit(enlarge)(x), atol=1e-6)


def test_confusion_matrices_are_products_elsewhere():
    def score(prediction, labels):
        return confusion_matrix(prediction, labels, 7)

    maps = [np.random.default_rng(seed).integers(0, 7, (2, 8, 9)).astype(np.int32) for seed in (0, 1)]
    texts = {target: exported(for_platform(score, target), *maps, platforms=[target]) for target in ("cpu", *ELSEWHERE)}
    scatters = {target: re.search(r'stablehlo\.scatter"?\(', text) is not None for target, text in texts.items()}
    assert scatters == {"cpu": True, "tpu": False, "cuda": False}
    np.testing.assert_array_equal(jax.jit(for_platform(score, "tpu"))(*maps), jax.jit(score)(*maps))


def made_of_everything():
    """A program that JAX caches in parts: jitted, checkpointed and scanned functions, a custom_vjp, a fence."""
    depthwise, transposed = (
        OPS["depthwise"][0],
        jax.jit(lambda x: conv_transpose2d(x, jnp.ones((4, 4, 6, 6)), padding=1)),
    )

    @fenced
    def bounded(x):
        return jnp.where(x > 1, 1.0, x)

    @jax.jit
    def inner(x, w):
        return bounded(jnp.clip(depthwise(x, w), -1))

    def body(x, w):
        return inner(x, w), None

    def loss(x, w):
        x = jax.checkpoint(inner)(x, w)
        x, _ = lax.scan(jax.checkpoint(body), x, jnp.stack([w, w]))
        x = lax.cond(x.sum() > 0, inner, depthwise, x, w)
        return jnp.square(resize(transposed(x), (20, 30))).sum()

    return loss


@pytest.mark.parametrize("first, second", [("cpu", "tpu"), ("tpu", "cpu"), (None, "tpu"), ("cuda", None)])
def test_the_order_of_tracing_does_not_matter(first, second):
    loss = made_of_everything()
    grad = jax.value_and_grad(loss, (0, 1))
    jitted = jax.jit(grad)  # one object for both
    args = arguments([(2, 9, 12, 6), (3, 3, 1, 6)])
    for target in (first, second, first):
        elsewhere = target in ELSEWHERE
        made = grad if target is None else for_platform(grad, target)
        texts = [exported(made, *args, platforms=[target or "cpu"])]
        if target is not None:
            texts.append(exported(for_platform(jitted, target), *args, platforms=[target]))
            with made_for(target):
                texts.append(exported(jitted, *args, platforms=[target]))
        else:
            texts.append(jitted.lower(*args).as_text())
        for text in texts:
            assert (FENCE in text, "feature_group_count = 6" in text) == (not elsewhere, elsewhere), target


def test_the_backward_rules_of_a_wrapped_loss_belong_to_this_process():
    """The second trap of segjax/ops/platform.py, and what avoids it."""

    @jax.custom_vjp
    def square(x):
        return x * x

    square.defvjp(lambda x: (x * x, x), lambda x, g: (fenced(lambda x, g: 2 * x * g)(x, g),))
    x = jnp.ones((4, 4))
    inside = exported(for_platform(jax.grad(lambda x: square(x).sum()), "tpu"), x, platforms=["tpu"])
    outside = exported(jax.grad(for_platform(lambda x: square(x).sum(), "tpu")), x, platforms=["tpu"])
    assert FENCE in outside and FENCE not in inside


def test_the_innermost_platform_counts_and_ends_with_its_block():
    assert platform() == jax.default_backend() == "cpu"
    with made_for("tpu"):
        assert platform() == "tpu"
        with pytest.raises(KeyError), made_for("cuda"):
            assert platform() == "gpu"
            assert for_platform(platform, "cpu")() == "cpu"
            raise KeyError
        assert platform() == "tpu"
    assert platform() == "cpu"


def test_another_thread_sees_the_platform_of_its_program_only():
    found = []
    with made_for("tpu"):
        thread = threading.Thread(target=lambda: found.extend([platform(), for_platform(platform, "gpu")()]))
        thread.start()
        thread.join()
    assert found == ["cpu", "gpu"]


def test_unknown_platforms_are_refused_at_once():
    with pytest.raises(ValueError, match="'metal'; choose cpu, gpu, cuda, rocm, tpu"):
        for_platform(jnp.sin, "metal")
    with pytest.raises(ValueError, match="choose cpu"), made_for("TPU"):
        pass


def test_a_function_traced_before_is_traced_again_for_textbook_convolutions():
    function, shapes, _ = OPS["depthwise"]
    jitted, args = jax.jit(function), arguments(shapes)
    assert count(jitted.lower(*args).as_text(), "convolution") == 0
    with textbook_convolutions():
        assert count(jitted.lower(*args).as_text(), "convolution") == 1
    assert count(jitted.lower(*args).as_text(), "convolution") == 0


def test_training_gradient_of_a_whole_network():
    model = models.create("fastscnn", 5, remat=True)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct((1, 64, 64), jnp.int32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)

    def loss(params, statistics, images, labels):
        output, _ = model.apply(
            {"params": params, "batch_stats": statistics}, images, train=True, mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(0)},
        )  # fmt: skip
        return relaxed_cross_entropy(output.logits, labels).mean()

    args = (variables["params"], variables["batch_stats"], images, labels)
    jaxpr = jax.make_jaxpr(for_platform(loss, "tpu"))(*args)
    kernels = str(jaxpr).count("conv_general_dilated[")
    ours = exported(jax.grad(loss), *args, platforms=["cpu"])  # traced for the CPU first
    theirs = exported(for_platform(jax.grad(loss), "tpu"), *args, platforms=ELSEWHERE)
    assert FENCE in ours and FENCE not in theirs
    assert count(ours, "convolution") == 0
    assert kernels > 30 and count(theirs, "convolution") >= 3 * kernels - 1  # images need no gradient
