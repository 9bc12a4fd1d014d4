"""Mutants of small models through the command line: how many end in a clean error, in a right model, in anything else.

    python benchmarks/fuzz.py --count 100000 --minutes 600 --jobs 16
    python benchmarks/fuzz.py --reproduce 4711 --keep /tmp/mutant

The same seed and number always give the same mutant. The last count must be 0: the exit code is 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

# In place of this folder, whose tensorrt.py would hide NVIDIA's package.
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests" / "fuzzing")

from mutants.campaign import run_trial, run_trials, warm_up  # noqa: E402
from mutants.tally import Tally  # noqa: E402
from mutants.trial import command_line  # noqa: E402


def main() -> int:
    """Run a campaign, or a single mutant."""
    options = _options()
    if options.reproduce is not None:
        return _reproduce(options.seed, options.reproduce, options.keep)
    tally = Tally()
    seconds = None if options.minutes is None else 60 * options.minutes
    numbers = iter(range(options.start, options.start + options.count))
    for trial in run_trials(options.seed, numbers, jobs=options.jobs, seconds=seconds):
        tally.add(trial)
        if options.verbose or trial.verdict.kind == "finding":
            print(trial, file=sys.stderr, flush=True)
    print(json.dumps(tally.figures(), indent=2) if options.json else tally)
    return int(bool(tally.findings))


def _reproduce(seed: int, index: int, keep: Path) -> int:
    """One mutant again, with tracebacks; its files stay."""
    keep.mkdir(parents=True)
    warm_up()
    trial = run_trial(seed, index, keep.resolve(), command=lambda words: command_line([*words, "--debug"]))
    print((keep / "work" / "said").read_text(encoding="utf-8", errors="backslashreplace"))
    print(f"{trial}\nThe files lie in {keep / 'work'}.")
    return int(trial.verdict.kind == "finding")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="another gives other mutants")
    parser.add_argument("--start", type=int, default=0, help="number of the first mutant")
    parser.add_argument("--count", type=int, default=1000, help="how many")
    parser.add_argument("--minutes", type=float, help="begin none after so long")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    parser.add_argument("--json", action="store_true", help="the counts alone")
    parser.add_argument("--verbose", action="store_true", help="tell of those that end well, too")
    parser.add_argument("--reproduce", type=int, metavar="NUMBER", help="this one alone, with tracebacks")
    parser.add_argument("--keep", type=Path, default=Path("mutant"), help="a new folder for the files of that one")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
