"""Coupled groups of channels: which slices of which constants must live or die together, and their removal."""

from graphpress.coupling.groups import Coupling, Frozen, Group, Place, couple
from graphpress.coupling.products import Blocks
from graphpress.coupling.remove import Keep, remove
from graphpress.coupling.unshare import unshare

__all__ = ["Blocks", "Coupling", "Frozen", "Group", "Keep", "Place", "couple", "remove", "unshare"]
