"""The pre-trained LM: the only place that knows transformers and peft."""

from .backbone import BASE, ROLES, Backbone, low_precision
from .cache import KeyValues, SharedCache
from .edit import Edit, LowRank
from .encoder import TextEncoder
from .loading import base_path, load_backbone
from .plain_adapter import logits_of, moved, plain_base, read_adapter, write_lora, write_prefix
from .roles import Frozen, Full, Lora, Role
from .scratch import new_backbone
from .segment import Span, soft_span

__all__ = [
    "BASE",
    "ROLES",
    "Backbone",
    "Edit",
    "Frozen",
    "Full",
    "KeyValues",
    "Lora",
    "LowRank",
    "Role",
    "SharedCache",
    "Span",
    "TextEncoder",
    "base_path",
    "load_backbone",
    "logits_of",
    "low_precision",
    "moved",
    "new_backbone",
    "plain_base",
    "read_adapter",
    "soft_span",
    "write_lora",
    "write_prefix",
]
