"""On the device itself: the whole way, from the folder to a verified engine."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TRTEXEC = shutil.which("trtexec") or shutil.which("/usr/src/tensorrt/bin/trtexec")
GPU = any(Path(name).exists() for name in ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvgpu"))

pytestmark = [
    pytest.mark.needs_device,
    pytest.mark.skipif(not (TRTEXEC and GPU), reason="needs_device: an NVIDIA GPU and trtexec"),
]


@pytest.mark.parametrize("way", [(), ("--typing", "weak")], ids=["strong", "weak"])
def test_the_engine_is_built_and_passes(written, way):
    folder = written("dgpu{tensorrt=10.3}")
    built = subprocess.run(["bash", str(folder / "build.sh"), *way], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    verified = subprocess.run([sys.executable, "-I", str(folder / "verify.py")], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.parametrize("core", ["0"])
def test_the_accelerator_passes(written, core):
    if not list(Path("/dev").glob("nvdla*")) + list(Path("/dev").glob("nvhost-nvdla*")):
        pytest.skip("needs_device: a deep learning accelerator")
    folder = written("jetson{dla=on}")
    built = subprocess.run(["bash", str(folder / "build.sh"), "--dla", core], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    verified = subprocess.run([sys.executable, "-I", str(folder / "verify.py")], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr
