"""What decoder or guide read while training, spoilt; one way a file."""

from .corruption import Corruption
from .denoising import Denoising
from .word_dropout import WordDropout

__all__ = ["Corruption", "Denoising", "WordDropout"]
