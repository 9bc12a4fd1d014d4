"""Print one of the README's two quick-start commands, so that what CI runs is what the README says."""

import re
import sys
from pathlib import Path

MARKS = {"demo": 0, "test": 1}


def commands(readme: str) -> list[str]:
    """The shell lines of the section "Quick start", without the prompt."""
    section = readme.split("## Quick start", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)
    return [block.strip() for block in blocks]


if __name__ == "__main__":
    blocks = commands((Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8"))
    print(blocks[MARKS[sys.argv[1]]])
