import jax
import jax.numpy as jnp
import numpy as np

from segjax.models.encnet import squared_distances


def data(n=50, d=24, k=6):
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, n, d)).astype(np.float32), rng.standard_normal((k, d)).astype(np.float32)


def test_distances_and_their_gradients():
    x, c = data()
    g = np.random.default_rng(1).standard_normal((2, 50, 6)).astype(np.float32)
    difference = x[:, :, None].astype(np.float64) - c
    found, pull = jax.vjp(squared_distances, x, c)
    np.testing.assert_allclose(found, (difference**2).sum(-1), rtol=1e-5)
    wanted = 2 * g[..., None] * difference
    np.testing.assert_allclose(pull(g)[0], wanted.sum(2), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(pull(g)[1], -wanted.sum((0, 1)), rtol=1e-4, atol=1e-3)


def test_small_distances_far_from_the_origin_keep_their_digits():
    """Where |x|^2 - 2 x c + |c|^2 has none left in float32."""
    x, c = data()
    x, c = (1e-2 * x + 100).astype(np.float32), (1e-2 * c + 100).astype(np.float32)
    wanted = np.square(x[:, :, None].astype(np.float64) - c).sum(-1)
    np.testing.assert_allclose(squared_distances(x, c), wanted, rtol=1e-3)


def test_no_array_of_every_pixel_codeword_and_channel_exists():
    x, c = jax.ShapeDtypeStruct((1, 4096, 128), jnp.float32), jax.ShapeDtypeStruct((32, 128), jnp.float32)

    def loss(x, c):
        return jnp.sum(jax.nn.softmax(-squared_distances(x, c)) ** 2)

    memory = jax.jit(jax.grad(loss, (0, 1))).lower(x, c).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4096 * 128 * 32 * 4 / 4
