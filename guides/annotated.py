"""q(z|x,y,a) by an inference network on the LM's own hidden states and the annotations of the response."""

from __future__ import annotations

from ..models import BackboneReader, LatentLM
from .reading import ReadingGuide


class AnnotatedGuide(ReadingGuide):
    """``q(z_i|x,y,a) = law(head(pool(h_1 ... h_T), pool(h_t : a_t = 1), pool(h_t : a_t = 2), ...))``.

    The head reads the response as a whole, the mean of the hidden states under each label, and the share of tokens that
    bear it: what the agent is and what the verb is are told apart. Without annotations the response as a whole is left.

    Args:
        model: whose latents to infer, with names of annotations.
        pooling: over the whole response, as of the amortised guide.
        width: of each head's hidden layer; 0 for a linear head.
        every_layer: read the hidden states after each layer and not after the last alone.

    Raises:
        ValueError: a model without annotations; in the program, a batch without a response.
    """

    def __init__(
        self, model: LatentLM, pooling: str = "mean", width: int = 0, every_layer: bool = False
    ) -> None:
        names = getattr(model, "annotations", None)
        if names is None:
            raise ValueError(
                f"guide annotated: {type(model).__name__} is told no annotations; set model=annotated, or "
                "guide=amortized"
            )
        super().__init__(
            model,
            lambda outputs: BackboneReader(
                model.backbone, "posterior", outputs, pooling, width, True, every_layer, len(names)
            ),
        )
