"""Words for readers of the exporter's code: ``doc_string``s, and what exporters note beside nodes and values.

PyTorch's exporters write the Python stack of each node, with the paths of the machine that they ran on, into its
``doc_string`` or its ``metadata_props`` (``pkg.torch.onnx.stack_trace``): a third of some files. No runtime reads them.
Applications do read the ``metadata_props`` of the model and of its inputs and outputs (labels, units, versions): those
are its interface, and stay.
"""

from __future__ import annotations

from typing import Final

import onnx
from google.protobuf.message import Message  # type: ignore[import-untyped]

from graphpress.ir.encoding import PREFIX

_INTERFACE: Final = ("input", "output")
"""Fields of messages whose metadata is for applications."""
_WITHOUT_DOCS: Final = ("type", "opset_import", "raw_data", "external_data", "metadata_props")
"""Fields that no doc string lies in: not searched."""


def drop_docs(proto: onnx.ModelProto) -> int:
    """Drop every doc string, and the metadata of everything that is not interface, in place; our annotations stay.

    Returns:
        Bytes of text that went.
    """
    return _drop(proto, keep_metadata=True)


def _drop(message: Message, *, keep_metadata: bool) -> int:
    dropped = 0
    for field, value in message.ListFields():
        if field.name == "doc_string":
            dropped += len(value.encode())
            message.ClearField("doc_string")
        elif field.name == "metadata_props" and not keep_metadata:
            dropped += _drop_metadata(message)
        elif field.message_type is not None and field.name not in _WITHOUT_DOCS:
            for part in (value,) if isinstance(value, Message) else value:
                dropped += _drop(part, keep_metadata=field.name in _INTERFACE)
    return dropped


def _drop_metadata(message: Message) -> int:
    entries = list(message.metadata_props)
    ours = [entry for entry in entries if entry.key.startswith(PREFIX)]
    if len(ours) < len(entries):
        message.ClearField("metadata_props")
        message.metadata_props.extend(ours)
    return sum(len(entry.key) + len(entry.value) for entry in entries if not entry.key.startswith(PREFIX))
