"""Probes of a latent space: what its coordinates and its geometry say of the texts; one a file."""

from .analogy import Analogy
from .chart import Chart, chart_of
from .clusters import Clusters
from .coder import Coder
from .depth import Depth
from .disentangled import Disentangled
from .interpolation import Interpolation
from .neighbours import Neighbours
from .probe import Probe, Reading
from .readable import Readable
from .search import Search
from .space import Space, labels_named, space_of, space_on
from .transfer import Transfer
from .traversal import Traversal

__all__ = [
    "Analogy",
    "Chart",
    "Clusters",
    "Coder",
    "Depth",
    "Disentangled",
    "Interpolation",
    "Neighbours",
    "Probe",
    "Readable",
    "Reading",
    "Search",
    "Space",
    "Transfer",
    "Traversal",
    "chart_of",
    "labels_named",
    "space_of",
    "space_on",
]
