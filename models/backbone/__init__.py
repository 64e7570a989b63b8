"""The pre-trained LM: the only place that knows transformers and peft."""

from .backbone import BASE, ROLES, Backbone
from .cache import KeyValues, SharedCache
from .edit import Edit
from .encoder import TextEncoder
from .loading import base_path, load_backbone
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
    "Role",
    "SharedCache",
    "Span",
    "TextEncoder",
    "base_path",
    "load_backbone",
    "new_backbone",
    "soft_span",
]
