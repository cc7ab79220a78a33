"""Scores of reconstructed frames beside those of a copy and of plain optical flow, and the sheet of some of them."""

import logging

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segjax import parallel
from segjax.data.sources import Record
from segjax.data.triplets import Triplets, TripletSampling
from segjax.data.video import FrameIndex
from segjax.evaluation.reconstruction import ReconstructionScorer
from segjax.models.sdcnet import VideoOutput
from tests.video_tools import Table


class Camera:
    """Frame t shows a random world from (x, y) = (2 t, 0) on."""

    def __init__(self, length=12, size=(32, 48)):
        self.index = Table((length,), size=size)
        world = np.random.default_rng(0).integers(0, 256, (size[0], size[1] + 2 * length, 3), dtype=np.uint8)
        world = cv2.GaussianBlur(world, (0, 0), 2)
        self.images = [world[:, 2 * t : 2 * t + size[1]] for t in range(length)]

    def __getitem__(self, number):
        return Record(self.images[number], None, self.index.names[number], "v0", number)


def exact(a, b):
    return np.stack([np.full((32, 48, 2), (2.0 * (x.frame - y.frame), 0), np.float32) for x, y in zip(a, b)])


def apply(brighter, images, flows, *, train):
    """The frame before the last, brighter by some grey levels."""
    assert not train and images.shape[1] == 2 and flows.shape[1] == 1
    return VideoOutput(frame=images[:, 1] + brighter, flow=flows[:, 0])


@pytest.fixture(params=[1, 4], ids="{} devices".format)
def scorer(request):
    mesh = parallel.make_mesh({"data": request.param}, jax.devices()[: request.param])
    sampling = TripletSampling(exact, frames=2, reverse=0.0)
    return ReconstructionScorer(apply, Triplets(FrameIndex(Camera())), sampling, mesh=mesh, batch_size=3, limit=7)


def test_the_network_beside_copy_and_flow(scorer):
    same, brighter = scorer.scores(jnp.float32(0)), scorer.scores(jnp.float32(16))
    assert list(same) == ["psnr", "psnr_copy", "psnr_flow", "ssim", "ssim_copy", "ssim_flow"]
    assert same["psnr"] == pytest.approx(same["psnr_copy"], abs=1e-3)  # the network is a copy here
    assert same["psnr_flow"] > same["psnr_copy"] + 5 and same["ssim_flow"] > same["ssim_copy"]
    assert brighter["psnr"] < same["psnr"] and brighter["psnr_copy"] == same["psnr_copy"]
    images = Camera().images
    triples = [i * 10 // 7 for i in range(7)]  # of ten, evenly spread
    errors = [np.square(images[t + 2].astype(float) - images[t + 1]).mean() for t in triples]
    assert same["psnr_copy"] == pytest.approx(np.mean([10 * np.log10(255**2 / error) for error in errors]), abs=1e-3)


def test_the_end_writes_a_sheet(scorer, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "segjax"):
        report = scorer.final(jnp.float32(0), tmp_path / "sheet.png", rows=3)
    assert report["frames"] == 7 and report["psnr"] == round(scorer.scores(jnp.float32(0))["psnr"], 4)
    assert "7 frames held out: network" in caplog.text and "sheet.png" in caplog.text
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[1] > 1600
    assert scorer.final(jnp.float32(0), tmp_path / "none.png", rows=0) == report
    assert not (tmp_path / "none.png").exists()
