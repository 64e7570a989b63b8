"""The router as the LM's own next-token law over strategy tokens."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..backbone import Backbone
from ..batch import Batch
from ..latents import Categorical, Latent
from ..regrouped import regrouped
from .router import GroupedRouter


class TokenRouter(GroupedRouter):
    """``p(z=k|x)`` proportional to ``exp(h(x) . e_k)``: the decoder's next-token law after x over K new tokens.

    The shared-parameter form: the network is the decoder's (its adapter included), and only the K rows are
    new.

    Raises:
        ValueError: a latent that is not categorical.
    """

    def __init__(self, backbone: Backbone, latent: Latent) -> None:
        super().__init__(backbone, latent)
        if not isinstance(latent, Categorical):
            raise ValueError(
                f"router token: a next-token law needs a categorical latent, got {type(latent).__name__}; "
                "use router=pooled"
            )
        self.rows = nn.Parameter(torch.zeros(latent.K, backbone.hidden_size))

    def hidden(self, batch: Batch) -> Tensor:
        """``h(x)``, ``(B, hidden_size)``, in the rows' dtype."""
        return self.backbone.hidden("decoder", batch.prompt, batch.prompt_mask)[:, -1].to(self.rows.dtype)

    def parameters_of(self, batch: Batch) -> Tensor:
        return self.hidden(batch) @ self.rows.T

    def regroup(self, weight: Tensor, gain: Tensor, prompts: Iterable[Batch]) -> None:
        """Without biases, a gain is the vector whose product with ``h(x)`` is nearest to it, by least squares."""
        if not gain.any():
            self.rows = regrouped(self.rows, weight)
            return
        with torch.no_grad():
            hidden = torch.cat([self.hidden(batch).double().cpu() for batch in prompts])
        one = torch.linalg.lstsq(hidden, torch.ones(len(hidden), 1, dtype=torch.double)).solution[:, 0]
        self.rows = regrouped(self.rows, weight, gain[:, None] * one)
