"""The bridge loads without the framework, and says how to get it."""

import subprocess
import sys

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import onnx.parser
from graphpress import torch_bridge
from graphpress.errors import BackendError
from graphpress.ir import from_proto
bridge = torch_bridge
here = bridge.available()
assert not here.works and here.install == "pip install 'graphpress[torch]'", here
text = '<ir_version: 10, opset_import: ["": 17]> g (float[1] x) => (float[1] y) { y = Relu (x) }'
model = from_proto(onnx.parser.parse_model(text))
for call in (lambda: bridge.to_module(model), lambda: bridge.write_back(None, model)):
    try:
        call()
    except BackendError as error:
        assert "graphpress[torch]" in error.fix, error
    else:
        raise AssertionError("no error")
"""


def in_a_process_of_its_own(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_seam_imports_no_framework():
    in_a_process_of_its_own("import sys, graphpress.torch_bridge; assert 'torch' not in sys.modules")


def test_without_torch_the_error_names_the_install_command():
    in_a_process_of_its_own(WITHOUT_TORCH)


def test_with_torch_it_is_available(bridge):
    here = bridge.available()
    assert here.works
    assert here.detail
    assert not here.install
