"""Coverage-guided fuzzing of one door, the bytes of a model file or metadata (pip install "graphpress[fuzz]").

    python benchmarks/fuzz_doors.py protobuf --minutes 10
    python benchmarks/fuzz_doors.py metadata crash-1234abcd

Ends with exit code 0 when the time is over, else with the traceback and a file of the bytes, which the second form
tries again. Bytes that are new to it stay in the corpus folder, where the next call begins.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import atheris

# In place of this folder, whose tensorrt.py would hide NVIDIA's package.
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests" / "fuzzing")

with atheris.instrument_imports(include=["graphpress.ir", "onnx_ir"]):
    from mutants.doors import DOORS, corpus


def main() -> None:
    """Fuzz a door, or try the bytes of a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("door", choices=DOORS)
    parser.add_argument("file", type=Path, nargs="?", help="try these bytes alone")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--corpus", type=Path, default=Path("corpus"), help="folder of inputs; made if it is missing")
    options = parser.parse_args()
    if options.file:
        DOORS[options.door](options.file.read_bytes())
        return
    folder = options.corpus / options.door
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(corpus(options.door)):
        (folder / f"seed-{number}").write_bytes(data)
    limits = [f"-max_total_time={int(60 * options.minutes)}", "-rss_limit_mb=4096", "-timeout=60", "-max_len=65536"]
    atheris.Setup([sys.argv[0], str(folder), *limits], DOORS[options.door])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
