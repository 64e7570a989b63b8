"""Probes of a latent space: what its coordinates and its geometry say of the texts; one a file."""

from .disentangled import Disentangled
from .neighbours import Neighbours
from .probe import Probe, Reading
from .readable import Readable
from .space import Space, space_of

__all__ = ["Disentangled", "Neighbours", "Probe", "Readable", "Reading", "Space", "space_of"]
