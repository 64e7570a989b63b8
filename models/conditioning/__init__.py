"""How z enters the decoder; one way a file."""

from .conditioning import Conditioning
from .cross_attention import CrossAttention
from .linear import LinearConditioning
from .lora_experts import LoraExperts
from .modulated_lora import ModulatedLora
from .position_memory import PositionMemory
from .prefix import KeyValuePrefix
from .residual import Residual
from .several import Several
from .slot import SlotTokens
from .tensor_product import TensorProduct

__all__ = [
    "Conditioning",
    "CrossAttention",
    "KeyValuePrefix",
    "LinearConditioning",
    "LoraExperts",
    "ModulatedLora",
    "PositionMemory",
    "Residual",
    "Several",
    "SlotTokens",
    "TensorProduct",
]
