"""The doors through which bytes of others come in, each as a function of bytes, for fuzzers that follow the coverage.

A door lets bytes in or refuses them with a ``GraphpressError``; any other exception is a finding.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import onnx

from graphpress.errors import GraphpressError
from graphpress.ir import load, serialize
from graphpress.ir.printer import print_model
from mutants.annotations import KEYS, places
from mutants.seeds import seeds

Door = Callable[[bytes], None]


def protobuf(data: bytes) -> None:
    """The bytes of a model file; what is let in can be shown and written."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        file.write_bytes(data)
        try:
            model = load(file)
        except GraphpressError:
            return
        print_model(model)
        serialize(model)


def metadata(data: bytes) -> None:
    """Metadata of a sound model: three bytes for the seed, the place and the key, and the text."""
    if len(data) < 3:
        return
    contents, _ = list(seeds().values())[data[0] % len(seeds())]
    model = onnx.ModelProto.FromString(contents)
    held = places(model)
    text = data[3:].decode("utf-8", errors="replace")
    held[data[1] % len(held)].metadata_props.add(key=KEYS[data[2] % len(KEYS)], value=text)
    protobuf(model.SerializeToString())


DOORS: Mapping[str, Door] = {"protobuf": protobuf, "metadata": metadata}


def corpus(door: str) -> Iterator[bytes]:
    """What to begin with: sound bytes for a door."""
    for number, (contents, _) in enumerate(seeds().values()):
        if door == "protobuf":
            yield contents
            continue
        for place in places(onnx.ModelProto.FromString(contents)):
            for item in place.metadata_props:
                key = KEYS.index(item.key) if item.key in KEYS else 0
                yield bytes((number, 0, key)) + item.value.encode()
