"""GSVNet (Lee et al., ICIP 2021): logits of the frame before, warped by light flow and corrected by a guided filter.

The tensor names are those of the released files: `state_dict` holds "grm.", and `state_dict_of` what "ofnet." holds.
"""

from __future__ import annotations

import flax.linen as nn

from segjax.models.guided_filter import GuidedFilter
from segjax.models.propagation import Propagation
from segjax.typing import Array


class GSVNet(Propagation):
    """GSVNet: (state (b, h', w', k), image, before) -> state; 396,406 parameters for 19 classes, 81 more if learned.

    form: "released": binary edges, and the warped logits beside kernels of which one is zero. "paper": edges through a
        sigmoid, and no such kernel.
    kernel_size: 3 or 5.
    learn_kernels: train the kernels too (Tables A5, A6).
    intra: whether logits of the frame itself guide and complete the result (Table 4). Without them only the edges guide
        it; the paper does not say so, it is our reading.
    """

    form: str = "released"
    kernel_size: int = 3
    learn_kernels: bool = False
    intra: bool = True

    guided_by_edges = True

    @nn.compact
    def __call__(
        self, state: Array, image: Array, before: Array, train: bool = False, train_flow: bool = False
    ) -> Array:
        """Returns the logits of a frame.

        state: logits (b, h', w', k) of the frame before.
        image, before: the frame and the one before, (b, h, w, 3) normalised floats, of any size; they are resized to
            the grid.
        train: normalise with batch statistics. train_flow: do so in the flow network only (the released training).

        Raises UserError for impossible options.
        """
        image, before = (self.shrunk(x, state.shape[1:3]) for x in (image, before))
        moved = self.warped(state, self.flow_between(image, before, train or train_flow))
        options = dict(form=self.form, kernel_size=self.kernel_size, learn_kernels=self.learn_kernels)
        grm = GuidedFilter(self.num_classes, **options, intra=self.intra, dtype=self.dtype, **self.norms, name="grm")
        return grm(moved, image, train)
