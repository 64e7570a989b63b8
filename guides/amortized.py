"""q(z|x,y) by an inference network on the LM's own hidden states."""

from __future__ import annotations

from ..models import BackboneReader, LatentLM
from .reading import ReadingGuide


class AmortizedGuide(ReadingGuide):
    """``q(z_i|x,y) = law(head(pool(hidden states of y after x)))``, independent over the latents.

    The network runs in the backbone's role ``posterior``; each latent has its own head, at the latent's
    reference law at the start.

    Args:
        model: whose latents to infer.
        pooling: ``mean``, ``first``, ``last``, ``mean_last`` or ``attention``, over the response.
        width: of each head's hidden layer; 0 for a linear head.
        every_layer: read the hidden states after each layer and not after the last alone.

    Raises:
        ValueError: in the program, a batch without a response.
    """

    def __init__(
        self, model: LatentLM, pooling: str = "mean", width: int = 0, every_layer: bool = True
    ) -> None:
        super().__init__(
            model,
            lambda outputs: BackboneReader(
                model.backbone, "posterior", outputs, pooling, width, response=True, every_layer=every_layer
            ),
        )
