"""Do coordinates of z stand for given factors, one for one? One measure a file, functions of values and factors."""

from .dci import dci
from .info_mec import info_mec
from .mig import mig
from .modularity import modularity
from .sap import sap
from .z_diff import z_diff
from .z_min_var import z_min_var

__all__ = ["dci", "info_mec", "mig", "modularity", "sap", "z_diff", "z_min_var"]
