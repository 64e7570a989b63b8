"""What decoder or guide read while training, spoilt; one way a file."""

from .corruption import Corruption

__all__ = ["Corruption"]
