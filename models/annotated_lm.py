"""A latent LM that is told an annotation of each token of the response."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from .annotations import NONE
from .backbone import Backbone
from .batch import Batch
from .conditioning import Conditioning
from .latent_lm import LatentLM
from .latents import Latent
from .memory import Memory
from .routers import Router
from .template import Template


class AnnotatedLM(LatentLM):
    """``p(y|x,a) = sum_z p(z|x) prod_t p(y_t | x, z, y_<t, a_<=t)``, with a label ``a_t`` for each token.

    The vector of ``a_t`` is added to the input embedding from which the t-th token is predicted. It is zero at the
    start, and always for a token without a label: responses without annotations have the law of a :class:`LatentLM`
    with the same weights, and that is what is compared with p0, which knows no annotations.

    Args:
        backbone, latents, router, conditioning, template: as of a :class:`LatentLM`.
        annotations: names of the labels.

    Raises:
        ValueError: no names, one twice, or one that stands for none.
    """

    def __init__(
        self,
        backbone: Backbone,
        latents: Mapping[str, Latent],
        router: Callable[[Backbone, Latent], Router],
        conditioning: Callable[[Backbone, Latent], Conditioning],
        template: Callable[[Backbone], Template] = Template,
        annotations: Sequence[str] | None = None,
    ) -> None:
        super().__init__(backbone, latents, router, conditioning, template)
        names = [str(name) for name in annotations or ()]
        if not names or len(set(names)) < len(names) or set(names) & set(NONE):
            raise ValueError(
                "model annotated: expected different names of annotations, none of them O; got "
                f"{', '.join(map(repr, names)) or 'none'}. Set data.annotations=[ARG0,V] say, with data=pairs or "
                "data=text"
            )
        self.annotations = names
        self._factories["annotations"] = names
        self.annotation = nn.Embedding(len(names), backbone.embedding_size)
        nn.init.zeros_(self.annotation.weight)

    def context(self, batch: Batch, z: Mapping[str, Tensor]) -> Memory:
        memory = super().context(batch, z)
        if self.is_base or batch.annotations is None:
            return memory
        labels = batch.annotations
        added = self.annotation((labels - 1).clamp(min=0)) * (labels > 0)[..., None]
        return Memory.cat([memory, Memory(added=added)])
