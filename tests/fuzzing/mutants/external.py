"""Changes of where a tensor's bytes lie outside the model file."""

from __future__ import annotations

from onnx import TensorProto

from mutants.draft import Draft, InapplicableError, Link, Mutation

_LOCATIONS = (
    "missing.bin", "../model.onnx", "../../etc/passwd", "/etc/passwd", "model.onnx", "", ".", "..", "link.bin",
    "a/b.bin", "weights.bin\x00", "file:///etc/passwd", "C:\\weights.bin", "-", "/dev/zero", "\x1b[31m.bin", "w" * 5000,
)  # fmt: skip
_NUMBERS = ("0", "1", "-1", "3", "4096", "", "x", "1e3", "0x10", str(2**62), str(2**70), "９")


def move_out(draft: Draft) -> str:
    """Into a file beside the model, where it may or may not be found."""
    tensor = draft.tensor()
    data = tensor.raw_data
    if not data:
        raise InapplicableError
    name = draft.pick(("moved.bin", "moved.bin", "moved.bin", *_LOCATIONS))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=name)
    if name in ("moved.bin", "link.bin"):
        draft.files["moved.bin"] = data
        draft.files["link.bin"] = Link(
            draft.pick(("moved.bin", "/etc/passwd", "../outside", "link.bin", "missing.bin"))
        )
    return f"{tensor.name!r} lies in {name[:40]!r}"


def change_entry(draft: Draft) -> str:
    """Another place, beginning or length of bytes that lie outside."""
    tensor = draft.pick([t for graph in draft.graphs() for t in graph.initializer if t.external_data])
    entry = draft.pick(tensor.external_data)
    entry.value = draft.pick(_LOCATIONS if entry.key == "location" else _NUMBERS)
    if entry.value == "link.bin":
        draft.files["link.bin"] = Link("weights.bin")
    return f"{entry.key} of {tensor.name!r} is {entry.value[:40]!r}"


def drop_entry(draft: Draft) -> str:
    """An entry is missing, comes twice, or is of an unknown kind."""
    tensor = draft.pick([t for graph in draft.graphs() for t in graph.initializer if t.external_data])
    index = draft.index(tensor.external_data)
    key = tensor.external_data[index].key
    match draft.random.randrange(3):
        case 0:
            del tensor.external_data[index]
        case 1:
            tensor.external_data.add(key=key, value=draft.pick((*_LOCATIONS, *_NUMBERS)))
        case _:
            tensor.external_data.add(key=draft.pick(("checksum", "unheard", "")), value="0")
    return f"{tensor.name!r} without or with another {key}"


def default_location(draft: Draft) -> str:
    """The tensor says that its bytes are elsewhere, or here, and they are not."""
    tensor = draft.tensor()
    tensor.data_location = draft.pick((TensorProto.DEFAULT, TensorProto.EXTERNAL))
    return f"{tensor.name!r} says that its bytes are at {tensor.data_location}"


def spoil_file(draft: Draft) -> str:
    """The file beside the model is gone, cut, or a link."""
    name = draft.pick(sorted(draft.files))
    contents = draft.files[name]
    match draft.random.randrange(4):
        case 0:
            del draft.files[name]
        case 1 if isinstance(contents, bytes):
            draft.files[name] = contents[: len(contents) // 2]
        case 2:
            draft.files[name] = Link(draft.pick(("/etc/passwd", "/dev/zero", name, "model.onnx")))
        case _:
            draft.files[name] = b""
    return f"{name} spoiled"


MUTATIONS: tuple[Mutation, ...] = (
    move_out,
    move_out,
    change_entry,
    change_entry,
    drop_entry,
    default_location,
    spoil_file,
)
