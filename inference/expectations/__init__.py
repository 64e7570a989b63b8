"""How E_q is taken; one way a file."""

from .enumerate import Enumerate
from .expectation import Expectation, Program, latent_sites
from .sample import Sample

__all__ = ["Enumerate", "Expectation", "Program", "Sample", "latent_sites"]
