"""How E_q is taken; one way a file."""

from .enumerate import Enumerate
from .expectation import Expectation, latent_sites, latents_alone, observed_sites, site_log_prob
from .sample import Sample

__all__ = [
    "Enumerate",
    "Expectation",
    "Sample",
    "latent_sites",
    "latents_alone",
    "observed_sites",
    "site_log_prob",
]
