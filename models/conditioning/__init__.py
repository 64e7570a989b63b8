"""How z enters the decoder; one way a file."""

from .conditioning import Conditioning
from .linear import LinearConditioning
from .prefix import KeyValuePrefix
from .slot import SlotTokens

__all__ = ["Conditioning", "KeyValuePrefix", "LinearConditioning", "SlotTokens"]
