"""The posterior of a data set in ArviZ's format, a run or several."""

from .arviz_front import psislw, read_inference_data, read_probabilities, write_inference_data
from .build import POSTERIOR, Texts, from_posteriors, to_inference_data
from .inferred import DRAWS
from .merge import merge

__all__ = [
    "DRAWS",
    "POSTERIOR",
    "Texts",
    "from_posteriors",
    "merge",
    "psislw",
    "read_inference_data",
    "read_probabilities",
    "to_inference_data",
    "write_inference_data",
]
