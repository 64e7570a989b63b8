"""The guide's log-density of values that it has drawn, or of others in their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyro
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor, nn
from torch.func import functional_call

from ..expectations import latent_sites, site_log_prob
from ..log_quantities import LogQuantities, Program


class _HeldParams(Messenger):
    """Parameters of Pyro's store through which no gradient flows."""

    def _pyro_post_param(self, msg: Message) -> None:
        if msg["value"] is not None:
            msg["value"] = msg["value"].detach()


class _Score(nn.Module):
    """What is made of a guide in one call, laws with parameters of their own (flows) included."""

    def __init__(self, guide: nn.Module, score: Callable[[Program], Tensor]) -> None:
        super().__init__()
        self.guide, self.score = guide, score

    def forward(self) -> Tensor:
        return self.score(self.guide)


def rescore(log: LogQuantities, z: Mapping[str, Tensor], fixed: bool) -> Tensor:
    """``log q(z|x,y)``, ``(P, B)``, by one more run of the guide on what it read, its sites held at ``z``.

    A site's law is the one given the values in ``z`` of the sites before it, with their gradient. Where the
    guide's reader is frozen the run costs its head alone.

    Args:
        log: of draws; says what the guide read and how many particles there are.
        z: ``(P, B, *event)`` of every site of the guide, by name.
        fixed: hold the guide's parameters, so that the gradient flows into ``z`` alone.

    Raises:
        ValueError: the sites are not those of ``z``; or ``fixed``, and the guide is not an ``nn.Module``.
    """
    assert log.scene is not None, "log-quantities of traced programs"
    guide, batch, shape = log.scene.guide, log.scene.guide_batch, log.log_q.shape
    # A flow keeps the inverse of the very tensor that it drew, with the gradients of that draw.
    values = {name: value.view_as(value) for name, value in z.items()}
    given = poutine.Trace()
    for name, value in values.items():
        given.add_node(name, name=name, type="sample", is_observed=False, value=value, infer={})

    def score(program: Program) -> Tensor:
        with pyro.plate("particles", shape[0], dim=-2):
            sites = latent_sites(poutine.trace(poutine.replay(program, trace=given)).get_trace(batch))
        if set(sites) != set(z):
            raise ValueError(
                f"rescore: values of {sorted(z)}, expected those of the guide's sites {sorted(sites)}"
            )
        parts = [site_log_prob(name, sites[name]["fn"], value, shape) for name, value in values.items()]
        return sum(parts[1:], parts[0])

    if not fixed:
        return score(guide)
    if not isinstance(guide, nn.Module):
        raise ValueError(
            f"guide: {getattr(guide, '__name__', type(guide).__name__)} is no nn.Module, so that its parameters "
            "cannot be held fixed as the gradient asks; make it one, or use gradient Pathwise with an "
            "objective that model and guide share"
        )
    whole = _Score(guide, score)
    # Each place once: a module that is reached by two paths would be put back from its own stand-in.
    parameters = {
        f"{path}.{name}".lstrip("."): parameter.detach()
        for path, module in whole.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
    }
    with _HeldParams():
        held: Tensor = functional_call(whole, parameters, (), tie_weights=False)
    return held
