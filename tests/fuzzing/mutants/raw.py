"""Changes of the bytes of the written file."""

from __future__ import annotations

from mutants.draft import Draft, Mutation


def flip(draft: Draft) -> str:
    """A few bits."""
    places = [draft.random.random() for _ in range(draft.pick((1, 1, 2, 8, 64)))]
    bits = [1 << draft.random.randrange(8) for _ in places]

    def change(data: bytes) -> bytes:
        flipped = bytearray(data)
        for place, bit in zip(places, bits, strict=True):
            if flipped:
                flipped[int(place * len(flipped))] ^= bit
        return bytes(flipped)

    draft.bytewise.append(change)
    return f"{len(places)} bits"


def remove(draft: Draft) -> str:
    """A piece is missing."""
    place, size = draft.random.random(), draft.pick((1, 2, 8, 100))
    draft.bytewise.append(lambda data: data[: int(place * len(data))] + data[int(place * len(data)) + size :])
    return f"{size} bytes fewer"


def insert(draft: Draft) -> str:
    """A piece too many: of anything, of numbers without end, or of groups in groups."""
    place = draft.random.random()
    piece = draft.pick(
        (draft.random.randbytes(4), b"\xff" * 10, b"\x0b" * 200, b"\x3a\x04\x0a\x02\x0a\x00", b"\0" * 16)
    )
    draft.bytewise.append(lambda data: data[: int(place * len(data))] + piece + data[int(place * len(data)) :])
    return f"{len(piece)} bytes more"


def repeat(draft: Draft) -> str:
    """A piece comes twice."""
    place, size = draft.random.random(), draft.pick((4, 50, 500))

    def change(data: bytes) -> bytes:
        start = int(place * len(data))
        return data[: start + size] + data[start:]

    draft.bytewise.append(change)
    return f"{size} bytes twice"


def truncate(draft: Draft) -> str:
    """The file ends early."""
    share = draft.random.random()
    draft.bytewise.append(lambda data: data[: int(share * len(data))])
    return f"{share:.0%} of the file"


def broken_text(draft: Draft) -> str:
    """A name that is no UTF-8."""
    name = draft.pick([value for value in draft.values() if value]).encode()
    spoiled = draft.pick((b"\xff", b"\xc3", b"\xed\xa0\x80", b"\0"))
    spoiled = (spoiled * len(name))[: len(name)]
    draft.bytewise.append(lambda data: data.replace(name, spoiled))
    return f"{name[:40]!r} becomes {spoiled[:40]!r}"


MUTATIONS: tuple[Mutation, ...] = (flip, flip, remove, insert, repeat, truncate, broken_text)
