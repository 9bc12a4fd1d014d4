"""Bridges by name, and what is said where the framework is missing."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

import graphpress.torch_bridge.protocol
from graphpress.errors import UsageError
from graphpress.torch_bridge.protocol import load_bridge

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import onnx.parser
from graphpress.torch_bridge.protocol import load_bridge
from graphpress.errors import BackendError
from graphpress.ir import from_proto
bridge = load_bridge()
here = bridge.available()
assert not here.works and here.install == "pip install 'graphpress[torch]'", here
text = '<ir_version: 10, opset_import: ["": 17]> g (float[1] x) => (float[1] y) { y = Relu (x) }'
model = from_proto(onnx.parser.parse_model(text))
for call in (lambda: bridge.to_framework(model), lambda: bridge.write_back(None, model)):
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
    in_a_process_of_its_own("import sys, graphpress.torch_bridge.protocol; assert 'torch' not in sys.modules")


def test_without_torch_the_bridge_says_how_to_get_it():
    in_a_process_of_its_own(WITHOUT_TORCH)


def test_with_torch_it_is_available(bridge):
    here = bridge.available()
    assert here.works
    assert here.detail
    assert not here.install


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'pytorch'"):
        load_bridge("pytorhc")


def third_parties(monkeypatch, **points):
    found = [EntryPoint(name, value, graphpress.torch_bridge.protocol.BRIDGE_GROUP) for name, value in points.items()]
    monkeypatch.setattr(graphpress.torch_bridge.protocol, "entry_points", lambda group: found)


def test_third_parties_bring_their_own(monkeypatch):
    third_parties(monkeypatch, other="collections:OrderedDict")
    assert load_bridge("other") == {}


def test_a_package_that_does_not_load_is_named(monkeypatch):
    third_parties(monkeypatch, other="no_such_package:Bridge")
    with pytest.raises(UsageError, match=r"other.*cannot be loaded from no_such_package:Bridge"):
        load_bridge("other")


def test_a_name_that_two_claim_is_an_error(monkeypatch):
    third_parties(monkeypatch, pytorch="elsewhere:Bridge")
    with pytest.raises(UsageError, match="claimed by graphpress and by elsewhere:Bridge"):
        load_bridge()
