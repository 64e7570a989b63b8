"""q(z|x,y) by an inference network on an encoder of its own."""

from __future__ import annotations

from ..models import EncoderReader, LatentLM, TextEncoder
from .reading import ReadingGuide


class EncoderGuide(ReadingGuide):
    """``q(z_i|x,y) = law(head(pool(encoder(x, y))))``, independent over the latents.

    The encoder reads the texts, by its own tokenizer, so that any goes with any LM. What a frozen one pools is
    computed once.

    Args:
        model: whose latents to infer.
        encoder: a local folder in Hugging Face format, or an identifier on the hub, that ``AutoModel`` loads.
        pooling: ``mean``, ``first`` (the [CLS] of BERT), ``last``, ``mean_last`` or ``attention``.
        width: of each head's hidden layer; 0 for a linear head.
        prompt: whether the prompt is read with the response, as a pair of texts.
        trained: whether the encoder's weights are trained.
        revision: of an encoder on the hub.

    Raises:
        ValueError: no such encoder; in the program, a batch without a response.
    """

    def __init__(
        self,
        model: LatentLM,
        encoder: str,
        pooling: str = "mean",
        width: int = 0,
        prompt: bool = True,
        trained: bool = False,
        revision: str | None = None,
    ) -> None:
        network = TextEncoder(encoder, trained, revision)
        super().__init__(
            model, lambda outputs: EncoderReader(model.backbone, network, outputs, pooling, width, prompt)
        )
