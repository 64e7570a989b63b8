"""The base law on the responses of a run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from ...models import LanguageModel
from ...models import base_law as of_model
from ..log_quantities import LogQuantities


@dataclass(frozen=True)
class BaseLaw:
    """``p0(y|x)`` on the given responses, without gradients.

    Attributes:
        law: ``p0``.
        log_p: ``log p0(y_t|x,y_<t)``, ``(B, T)`` nats, 0 at padding.
        hidden: last hidden states ``(B, T, hidden_size)`` before each token.
        mask: ``(B, T)``, True for a token.
    """

    law: LanguageModel
    log_p: Tensor
    hidden: Tensor
    mask: Tensor

    @property
    def token_weights(self) -> Tensor:
        """``v_t``, the loss ``-log p0(y_t|x,y_<t)`` over its mean in the response; ``(B, T)``, 0 at padding.

        1 at each token of a response that is certain under the base.
        """
        mean = -self.log_p.sum(-1, keepdim=True) / self.mask.sum(-1, keepdim=True)
        return torch.where(mean > 0, -self.log_p / mean, 1.0) * self.mask


_OF_SCENE = WeakIdKeyDictionary()


def base_law(log: LogQuantities) -> BaseLaw:
    """The base law of a run, made by one pass however many terms ask.

    Raises:
        ValueError: a model without a base.
    """
    scene = log.scene
    assert scene is not None
    if scene not in _OF_SCENE:
        response = scene.batch.response
        assert response is not None
        with torch.no_grad():
            law = of_model(scene.model, scene.batch)
            _OF_SCENE[scene] = BaseLaw(
                law, law.token_log_probs(response), law.hidden(response), law.mask_of(response)
            )
    return _OF_SCENE[scene]
