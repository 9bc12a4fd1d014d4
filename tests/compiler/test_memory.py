"""What memory there is, from made-up files of the system, and blocks that get only so much."""

import resource
import sys

import numpy as np
import pytest

from graphpress import memory
from graphpress.memory import available_memory, give_back_memory, memory_budget

GB = 10**9


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A system of the files that are given, by path."""

    def make(**files):
        for name, text in files.items():
            file = tmp_path / {"meminfo": "proc/meminfo", "own": "proc/self/cgroup"}.get(name, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        monkeypatch.setattr(memory, "_PROC", tmp_path / "proc")
        monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "cgroup")

    return make


MEMINFO = "MemTotal: 9000000 kB\nMemAvailable: 8000000 kB\nSwapFree: 1000000 kB\n"


def group(path, limit, used, cached=0, names=("memory.max", "memory.current")):
    folder = f"cgroup/{path}".rstrip("/")
    return {
        f"{folder}/{names[0]}": f"{limit}\n",
        f"{folder}/{names[1]}": f"{used}\n",
        f"{folder}/memory.stat": f"anon 1\ninactive_file {cached}\n",
    }


def test_of_a_machine_without_containers(system):
    system(meminfo=MEMINFO, own="0::/\n")
    assert available_memory() == 9_000_000 * 1024


def test_a_container_leaves_less_and_what_is_cached_does_not_count(system):
    system(meminfo=MEMINFO, own="0::/\n", **group("", 2 * GB, 1 * GB, cached=GB // 2))
    assert available_memory() == 1.5 * GB


def test_a_group_around_the_own_one_counts_too(system):
    system(
        meminfo=MEMINFO, own="0::/outer/inner\n", **group("outer", 3 * GB, GB), **group("outer/inner", "max", GB // 2)
    )
    assert available_memory() == 2 * GB


def test_groups_of_the_first_version(system):
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    own = "5:cpu,cpuacct:/a\n3:memory:/a\n"
    system(meminfo=MEMINFO, own=own, **group("memory/a", GB, GB // 4, names=names))
    assert available_memory() == 0.75 * GB


def test_a_system_that_tells_nothing(system):
    system()
    assert available_memory() is None
    with memory_budget(1):
        assert np.ones(1 << 20).sum() == 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="no other system bounds the address space")
def test_a_block_gets_so_much_and_no_more():
    before = resource.getrlimit(resource.RLIMIT_AS)
    with memory_budget(64 << 20):
        np.ones(1 << 20, np.uint8)
        with pytest.raises(MemoryError):
            np.ones(1 << 28, np.uint8)
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    np.ones(1 << 28, np.uint8)


@pytest.mark.skipif(sys.platform != "linux", reason="reads how much of its memory a process has")
def test_freed_fragments_go_back_to_the_system():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    blocks = [b"x" * 100_000 for _ in range(1000)]
    kept = blocks[::100]
    del blocks
    before = resident()
    give_back_memory()
    assert resident() < before - 50_000_000
    assert len(kept) == 10
