"""Laws that Pyro does not have."""

from .von_mises_fisher import VonMisesFisherLaw

__all__ = ["VonMisesFisherLaw"]
