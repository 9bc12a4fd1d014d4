"""Libraries that stand in for TensorRT's own, so that its Python bindings can be imported without it.

    python stubs.py path/to/tensorrt_bindings/tensorrt.so FOLDER

The bindings describe every class, enumeration and signature by themselves; of the libraries they need about ten
functions when something is made. The stubs define exactly those that the bindings leave undefined and nothing else in
the process provides; each returns null. They are made with ``gcc`` from what ``nm`` and ``readelf`` say.
"""

import ctypes
import re
import subprocess
import sys
from pathlib import Path

STANDARD = re.compile(r"(lib(c|m|dl|rt|gcc_s|stdc\+\+|pthread)|ld-linux.*)\.so")


def build(library: Path, folder: Path) -> list[Path]:
    """Make a stub for each library that the bindings need beside the system's; the first has all the functions."""
    names = sorted(name for name in needed(library) if not STANDARD.match(name))
    functions = undefined(library)
    made = []
    for name in names:
        source = folder / f"{name}.c"
        own = functions if name == names[0] else []
        source.write_text("".join(f"void *{function}(void) {{ return 0; }}\n" for function in own))
        made.append(folder / name)
        subprocess.run(
            ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(made[-1]), str(source)],
            check=True,
            capture_output=True,
        )
    return made


def needed(library: Path) -> list[str]:
    """Sonames of the libraries that a library loads."""
    said = subprocess.run(["readelf", "-d", str(library)], check=True, capture_output=True, text=True).stdout
    return re.findall(r"\(NEEDED\).*\[(.+)\]", said)


def undefined(library: Path) -> list[str]:
    """Functions that a library expects from another and that this process, Python included, does not have.

    Symbols with a version (``memcpy@GLIBC_2.14``) are the system's, weak ones may stay undefined.
    """
    said = subprocess.run(["nm", "-D", "--undefined-only", str(library)], check=True, capture_output=True, text=True)
    names = [line.split()[1] for line in said.stdout.splitlines() if line.split()[0] == "U"]
    process = ctypes.CDLL(None)
    return sorted(name for name in names if "@" not in name and not hasattr(process, name))


if __name__ == "__main__":
    for file in build(Path(sys.argv[1]), Path(sys.argv[2])):
        print(file)
