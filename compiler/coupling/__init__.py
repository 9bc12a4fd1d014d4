"""Coupled groups of channels: which slices of which constants must live or die together, and their removal."""

from graphpress.coupling.groups import Coupling, Group, PinnedAxis, Place, couple
from graphpress.coupling.products import Blocks
from graphpress.coupling.remove import Keep, remove
from graphpress.coupling.shuffles import shuffles_to_gathers
from graphpress.coupling.unshare import unshare

__all__ = [
    "Blocks",
    "Coupling",
    "Group",
    "Keep",
    "PinnedAxis",
    "Place",
    "couple",
    "remove",
    "shuffles_to_gathers",
    "unshare",
]
