"""A-Lite, a baseline of GSVNet: Accel with GSVNet's light flow and its light network of the frame itself.

It warps features of the keyframe network instead of its logits, classifies them, and joins both logits by a 1x1
convolution. Source: Lee et al., ICIP 2021, section 4.3, and Jain et al., Accel (CVPR 2019); no code is released.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import flax.struct
import jax.numpy as jnp

from segjax.errors import UserError, did_you_mean
from segjax.models.guided_filter import intra_logits
from segjax.models.layers import conv_and_norm
from segjax.models.propagation import Propagation, on_grid
from segjax.typing import Array, SegOutput


@flax.struct.dataclass
class FeatureState:
    """State of A-Lite.

    features: of the keyframe, moved into this frame, (b, h', w', c).
    scores: logits of this frame, (b, h', w', k).
    """

    features: Array
    scores: Array


class ALite(Propagation):
    """A-Lite: (FeatureState, image, before) -> FeatureState.

    feature: name of the keyframe network's features, by default those before SwiftNet's classifier.
    feature_channels: their channels c.
    """

    feature: str = "up2"
    feature_channels: int = 128

    def start(self, output: SegOutput, size: tuple[int, int]) -> FeatureState:
        """Returns the state after a keyframe, see `Propagation.start`.

        Raises UserError if the keyframe network has no such features.
        """
        if self.feature not in output.features:
            raise UserError(
                f"feature={self.feature!r} of a_lite is not computed by the keyframe network."
                f"{did_you_mean(self.feature, output.features)}"
            )
        features = output.features[self.feature]
        if features.shape[-1] != self.feature_channels:
            raise UserError(
                f"the features {self.feature} of the keyframe network have {features.shape[-1]} channels; write "
                f"feature_channels={features.shape[-1]}."
            )
        scores = super().start(output, size)
        return FeatureState(on_grid(features.astype(scores.dtype), output, self.grid(size)), scores)

    def logits(self, state: FeatureState) -> Array:
        """Returns the logits (b, h', w', k) of a state."""
        return state.scores

    @nn.compact
    def __call__(
        self, state: FeatureState, image: Array, before: Array, train: bool = False, train_flow: bool = False
    ) -> FeatureState:
        """Returns the state of a frame; see `GSVNet` for the arguments."""
        image, before = (self.shrunk(x, state.scores.shape[1:3]) for x in (image, before))
        moved = self.warped(state.features, self.flow_between(image, before, train or train_flow))
        conv, norm = conv_and_norm(self, train)
        conv = partial(conv, use_bias=True)
        own = intra_logits(image, self.num_classes, conv, norm, "intra")
        both = jnp.concatenate([conv(self.num_classes, 1, name="classifier")(moved), own], -1)
        scores = conv(self.num_classes, 1, name="fusion")(both).astype(state.scores.dtype)
        return FeatureState(moved, scores)
