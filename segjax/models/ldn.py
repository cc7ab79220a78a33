"""Ladder DenseNets (Kreso et al., "Efficient Ladder-style DenseNets", sections 3 and 5) and their siblings.

A trunk, pyramid pooling and a ladder of transitions up (TU): LDN on a DenseNet, LRN on a ResNet, also on DPN-68 and on
EfficientNet-Lite. Layers and tensor names of ivankreso/LDN; those of the siblings and of the heads of the pyramid are
ours. Two networks have this name:

paper: plain TUs and 256 channels after the pyramid, as the paper draws them. Sizes and FLOPs that it prints for
    DenseNet ladders are those of this form from random initial weights (`random_init`).
released: a shortcut around each TU and 512 channels, as the released code builds them. The paper's figures of ResNet
    ladders and of dilated DenseNets fit this form.

Strides follow from the layout, see layouts.py. Odd maps are rounded down as published.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from segjax.errors import UserError, did_you_mean
from segjax.models.backbones.densenet import DenseNet
from segjax.models.backbones.dpn import DPN68
from segjax.models.backbones.efficientnet_lite import BN_EPS
from segjax.models.backbones.resnet import ResNet
from segjax.models.blocks import PyramidPooling, TransitionUp, Unit
from segjax.models.checks import check_images
from segjax.models.heads import find_form, seg_output
from segjax.models.layers import Dropout, ImageNetwork, conv_and_norm, kaiming_fan_in, xavier_normal
from segjax.models.layouts import LAYOUTS, Layout
from segjax.models.remat import rematerialised
from segjax.models.trunks import LIGHT
from segjax.typing import Array, SegOutput

ModuleDef = Callable[..., nn.Module]


class Trunk(NamedTuple):
    """Trunk of a ladder.

    build: its constructor.
    layouts: that fit it.
    dense: a DenseNet, whose options the network passes on.
    """

    build: Callable[..., nn.Module]
    layouts: tuple[str, ...]
    dense: bool = False


UNDILATED, DILATED = ("32", "32to4"), ("8", "8to4", "16to4")
TRUNKS: dict[str, Trunk] = {
    **{f"densenet{depth}": Trunk(partial(DenseNet, depth), tuple(LAYOUTS), dense=True) for depth in (121, 161, 169)},
    # the papers do not say whether maps are passed on before or after their last ReLU; here it is after
    **{
        f"resnet{depth}": Trunk(partial(ResNet, depth, name="backbone"), (*UNDILATED, *DILATED))
        for depth in (18, 34, 50, 101)
    },
    "dpn68": Trunk(DPN68, (*UNDILATED, "32to2")),
    **{name: Trunk(build, (*UNDILATED, "32to2", *DILATED)) for name, build in LIGHT.items()},
}
RANDOM_INIT_DROPOUT = {"densenet161": 0.2, "densenet169": 0.2}  # of the released code


class Form(NamedTuple):
    """Form of the network.

    residual: with a shortcut around each TU.
    spp_width: channels after the pyramid pooling, in units of the network's width.
    """

    residual: bool
    spp_width: int


FORMS = {"paper": Form(residual=False, spp_width=2), "released": Form(residual=True, spp_width=4)}
WIDE_SPP = 4  # of networks without a ladder, in both forms: their published size fits no other
SPP = ("grids", "none", "pspnet")
PSPNET_ROWS = (6, 3, 2, 1)
AUX_LOSS = "soft_target_cross_entropy"


class LDN(ImageNetwork):
    """Ladder DenseNet: images (b, h, w, 3), normalised -> SegOutput.

    trunk: a key of TRUNKS.
    layout: a key of LAYOUTS.
    form: "paper" or "released", see above.
    spp: pyramid pooling: "grids" as published; "none" for a 3x3 convolution in its place; "pspnet" for square grids,
        twice the channels and no projection before the pooling (Zhao et al., CVPR 2017).
    grid_rows: rows of the grids; () for 8, 4, 2, 1 (4, 2, 1 in layout "128to4"; 6, 3, 2, 1 of "pspnet").
    square_grids: as many columns as rows, instead of square cells.
    spp_features: channels after the pyramid; None for those of the form.
    separable: depthwise and pointwise convolutions in the ladder.
    aux: with auxiliary logits: "auxSTRIDE" of the input of each TU, and "aux_sppROWS" of each level of the pyramid.
    width: channels of the last map. All widths beside the trunk's are in proportion; 128 as published.
    random_init: the DenseNet of the released code for random initial weights, without the stem's norm and the first
        1x1 convolutions, with dropout 0.2 in the layers of depth 161 and 169.
    growth, blocks: of the DenseNet, see `DenseNet`.
    layer_dropout: rate after each dense layer; None for the published one.
    dropout: rate before the classifier; 0 as published.
    """

    bn_momentum: float = 0.05
    trunk: str = "densenet121"
    layout: str = "64to4"
    form: Literal["paper", "released"] = "paper"
    spp: Literal["grids", "none", "pspnet"] = "grids"
    grid_rows: tuple[int, ...] = ()
    square_grids: bool = False
    spp_features: int | None = None
    separable: bool = False
    aux: bool = True
    width: int = 128
    random_init: bool = False
    growth: int | None = None
    blocks: tuple[int, ...] | None = None
    layer_dropout: float | None = None
    dropout: float = 0.0

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> SegOutput:
        """Returns logits and features of images (b, h, w, 3), normalised floats.

        The features are "strideSTRIDE" of each map of the trunk that the ladder reads, "spp" after the pyramid and
        "levelSTRIDE" after each TU.

        train: use batch statistics and dropout.
        Raises UserError for images or options that the network cannot process.
        """
        check_images(images, smallest=self.smallest)
        layout, form, rows = self.plan(), self._form(), self.rows()
        conv, norm = conv_and_norm(self, train, kaiming_fan_in)
        conv = partial(conv, bias_init=nn.initializers.zeros)
        trunk = TRUNKS[self.trunk].build(conv=conv, norm=norm, **self.trunk_options(train))
        if trunk.name != "backbone":
            nn.share_scope(self, trunk)
        maps = trunk(images.astype(jnp.dtype(self.dtype)))
        features = {f"stride{stride}": maps[stride] for stride in sorted(layout.strides)}
        x, levels = self._pyramid(layout, rows, maps[layout.down], conv, norm)
        features["spp"] = x

        last = partial(conv, kernel_init=xavier_normal, use_bias=True)
        head = partial(rematerialised(Unit, self.recomputed, "head"), self.num_classes, last, norm, 1)
        transition_up = rematerialised(TransitionUp, self.recomputed, "up")
        aux = {}
        for i, (coarse, fine, up) in enumerate(zip(layout.strides, layout.strides[1:], layout.ups)):
            name = f"upsample_layers.upsample_{i}"
            if self.aux:
                aux[f"aux{coarse}"] = head(name=f"{name}.aux_logits")(x)
            tu = transition_up(
                up * self.width, self.width, conv, norm, residual=form.residual, separable=self.separable, name=name
            )
            x = features[f"level{fine}"] = tu(x, maps[fine])
        if self.aux:
            aux |= {f"aux_spp{rows}": head(name=f"spp.spp.aux{rows}")(levels[rows]) for rows in sorted(levels)}
        x = Dropout(self.dropout, train=train, name="drop")(x)
        wide = jnp.promote_types(x.dtype, jnp.float32)
        return seg_output(
            {"logits": head(name="logits")(x)}, features, images.shape[1:3], align_corners=False,
            aux={name: y.astype(wide) for name, y in aux.items()},
        )  # fmt: skip

    def trunk_options(self, train: bool) -> dict[str, Any]:
        """Returns the options of the trunk, beside the constructors of its layers; train: drop values."""
        layout = self.plan()
        common = dict(output_stride=layout.output_stride, remat=self.recomputed)
        if not TRUNKS[self.trunk].dense:
            return common
        published = RANDOM_INIT_DROPOUT.get(self.trunk, 0.0) if self.random_init else 0.0
        return common | dict(
            growth=self.growth, blocks=self.blocks, stem_stride=layout.stem_stride, stem_pool=2,
            stem_norm=not self.random_init, stem_map=layout.strides[-1] == layout.stem_stride,
            early_bottlenecks=not self.random_init, splits=layout.splits, train=train,
            layer_dropout=published if self.layer_dropout is None else self.layer_dropout,
        )  # fmt: skip

    def _pyramid(
        self, layout: Layout, rows: tuple[int, ...], x: Array, conv: ModuleDef, norm: ModuleDef
    ) -> tuple[Array, dict[int, Array]]:
        """Returns the context-aware map (b, h, w, c') of x (b, h, w, c), and the levels of the pyramid by their rows.

        Call it in the compact method.
        """
        features = self._spp_features(layout)
        unit, pyramid = (rematerialised(kind, self.recomputed, "spp") for kind in (Unit, PyramidPooling))
        if self.spp == "none":
            x = unit(4 * self.width, conv, norm, 1, name="spp.spp.spp_bn")(x)
            return unit(features, conv, norm, 3, name="spp.spp.spp_fuse")(x), {}
        width, level_width = (0, 2 * self.width) if self.spp == "pspnet" else (4 * self.width, self.width)
        square = self.square_grids or self.spp == "pspnet"
        pooling = pyramid(features, conv, norm, rows, width, level_width, square, name="spp.spp")
        return pooling(x)

    def _spp_features(self, layout: Layout) -> int:
        if self.spp_features is not None:
            return self.spp_features
        wide = not layout.ups or self.spp == "pspnet"
        return self.width * (WIDE_SPP if wide else self._form().spp_width)

    def rows(self) -> tuple[int, ...]:
        """Returns the rows of each grid of the pyramid pooling, () without one.

        Raises UserError for rows that no grid has.
        """
        if self.spp not in SPP:
            raise UserError(f"spp={self.spp!r} does not exist.{did_you_mean(self.spp, SPP)}")
        if self.spp == "none":
            if self.grid_rows:
                raise UserError(f"grid_rows={self.grid_rows} means nothing with spp='none'; leave one of them out.")
            return ()
        rows = tuple(self.grid_rows) or (PSPNET_ROWS if self.spp == "pspnet" else self.plan().grid_rows)
        if min(rows) < 1 or len(set(rows)) < len(rows):
            raise UserError(f"grid_rows={rows} must be different numbers of rows, each 1 or more.")
        return rows

    def plan(self) -> Layout:
        """Returns the layout.

        Raises UserError for a trunk or a layout that does not exist, and for options that do not fit the trunk.
        """
        if self.trunk not in TRUNKS:
            raise UserError(f"trunk={self.trunk!r} does not exist.{did_you_mean(self.trunk, TRUNKS)}")
        if self.layout not in LAYOUTS:
            raise UserError(f"layout={self.layout!r} does not exist.{did_you_mean(self.layout, LAYOUTS)}")
        trunk, layout = TRUNKS[self.trunk], LAYOUTS[self.layout]
        if self.layout not in trunk.layouts:
            what = "dense layers to split" if layout.splits else "maps of these strides"
            raise UserError(
                f"layout={self.layout!r} does not fit {self.trunk}, which has no {what}; "
                f"choose one of {', '.join(trunk.layouts)}."
            )
        given = {name for name in ("growth", "blocks", "layer_dropout") if getattr(self, name) is not None}
        given |= {"random_init"} if self.random_init else set()
        if given and not trunk.dense:
            raise UserError(
                f"{min(given)}={getattr(self, min(given))!r} does not fit {self.trunk}, which has no dense layers; "
                "leave it out."
            )
        return layout

    def _form(self) -> Form:
        return find_form("LDN", self.form, FORMS)

    @property
    def remat_segments(self) -> tuple[str, ...]:
        """Returns the segments of the network."""
        dense = ("conv3x3", "cat1x1", "layer", "td") if self._dense else ()
        return (*dense, "block", "stem", "up", "spp", "head")

    @property
    def usual_remat(self) -> str:
        """Returns the segments that remat=True stands for: the best row of the paper's Table 11."""
        return "layer+stem+td+up" if self._dense else "block+stem+up"

    @property
    def _dense(self) -> bool:
        return self.trunk in TRUNKS and TRUNKS[self.trunk].dense

    @property
    def smallest(self) -> int:
        """Returns the smallest side of an image, pixels, whose smallest map still has a pixel."""
        layout = self.plan()
        # a DenseNet rounds down from the first pooling on, the other trunks round up
        return layout.down - layout.stem_stride + 1 if TRUNKS[self.trunk].dense else 1

    @property
    def loss_weights(self) -> dict[str, float]:
        """Returns the published weight of the loss on each output: 0.4 in equal parts on the auxiliary heads."""
        heads = list(self.loss_names)
        return {"logits": 0.6, **{name: 0.4 / len(heads) for name in heads}} if heads else {"logits": 1.0}

    @property
    def loss_names(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Returns the loss of each auxiliary head, and its options: soft targets in cells of the head's stride.

        The cells of the levels of the pyramid are those of its grids.
        """
        ladder = {f"aux{stride}": (AUX_LOSS, {"cell": stride}) for stride in self.plan().strides[:-1]}
        pyramid = {f"aux_spp{rows}": (AUX_LOSS, {}) for rows in sorted(self.rows())}
        return ladder | pyramid if self.aux else {}


ldn121, ldn161, ldn169 = (partial(LDN, trunk=f"densenet{depth}") for depth in (121, 161, 169))
lrn18, lrn50, lrn101 = (
    partial(LDN, trunk=f"resnet{depth}", layout="32to4", form="released") for depth in (18, 50, 101)
)
ldn_dpn68 = partial(LDN, trunk="dpn68", layout="32to4")
ldn_efficientnet_lite0 = partial(LDN, trunk="efficientnet_lite0", layout="32to4", bn_eps=BN_EPS)
