"""Cuts of the responses into as many parts as a latent has values, found in the base before the fit; one a file."""

from .hidden_states import HiddenStates
from .partition import Assign, Partition

__all__ = ["Assign", "HiddenStates", "Partition"]
