"""Faults of the machine are recognized, whatever libraries make of them; nothing else is taken for one."""

import errno

import numpy as np
import pytest

from graphpress.errors import (
    DataError,
    ModelError,
    ResourceError,
    UsageError,
    did_you_mean,
    reraise_resource_fault,
    resource_fault,
    resource_faults,
)


class NativeError(Exception):
    """As ONNX Runtime's, which has no class for what the machine lacks."""


def raised_from(error, cause):
    error.__cause__ = cause
    return error


FAULTS = [
    (MemoryError(), "memory ran out"),
    (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
    (OSError(errno.EDQUOT, "Disk quota exceeded", "f"), "Disk quota exceeded"),
    (OSError(errno.EROFS, "Read-only file system", "f"), "Read-only file system"),
    (PermissionError(errno.EACCES, "Permission denied", "f"), "Permission denied"),
    (OSError(errno.EMFILE, "Too many open files", "f"), "Too many open files"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory ran out"),
    (OSError(errno.EIO, "Input/output error", "f"), "Input/output error"),
    (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), "No usable temporary"),
    (RuntimeError("std::bad_alloc"), "memory ran out"),
    (RuntimeError("can't start new thread"), "can't start new thread"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), "memory ran out"),
    (NativeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : bad allocation"), "memory ran out"),
    (NativeError("BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer"), "memory ran out"),
    (NativeError('open file "m.onnx" fail, errcode = 24 - Too many open files'), "Too many open files"),
    (NativeError("Load model from m.onnx failed:system error number 24"), "Too many open files"),
    (NativeError("[ONNXRuntimeError] : 1 : FAIL : SystemError : 28"), "No space left on device"),
    (RuntimeError("cannot write: [Errno 28]"), "No space left on device"),
    (NativeError("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Protobuf serialization failed."), "serialization failed"),
    (ImportError("libx.so: failed to map segment from shared object"), "memory ran out"),
    (ImportError("libx.so: cannot open shared object file: Too many open files"), "Too many open files"),
    (raised_from(ModelError("cannot be loaded"), raised_from(ValueError("x"), MemoryError())), "memory ran out"),
    (raised_from(DataError("cannot be read"), OSError(errno.EMFILE, "Too many open files")), "Too many open files"),
]
OTHERS = [
    ValueError("std::bad_alloc"),
    KeyError("Permission denied"),
    RuntimeError("size mismatch"),
    NativeError("[ONNXRuntimeError] : 1 : FAIL : Type Error"),
    NativeError("Load model from m.onnx failed:system error number 2"),
    NativeError("node 24 : errno_24 = 28"),
    FileNotFoundError(errno.ENOENT, "No such file or directory", "Too many open files"),
    IsADirectoryError(errno.EISDIR, "Is a directory", "f"),
    OSError("no device"),
    UsageError("out of memory is no option"),
    raised_from(ModelError("not a readable file"), PermissionError(errno.EACCES, "Permission denied", "m.onnx")),
]


@pytest.mark.parametrize(("error", "what"), FAULTS, ids=repr)
def test_what_the_machine_lacks_is_recognized(error, what):
    fault = resource_fault(error)
    assert what in fault.what
    assert fault.fix
    assert fault.exit_code == 6
    with pytest.raises(ResourceError, match=what) as raised, resource_faults():
        raise error
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_nothing_else_is(error):
    assert resource_fault(error) is None
    reraise_resource_fault(error)
    with pytest.raises(type(error)) as raised, resource_faults():
        raise error
    assert raised.value is error


@pytest.mark.parametrize("size", [1 << 58, 1 << 60])
def test_arrays_that_cannot_be_made(size):
    with pytest.raises(ResourceError, match="memory ran out"), resource_faults():
        np.ones(size, np.uint8)


def test_tensors_of_torch_that_cannot_be_made():
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'graphpress[torch]'")
    with pytest.raises(ResourceError, match="memory ran out"), resource_faults():
        torch.empty(1 << 58)


def test_a_fault_that_is_one_already_stays():
    fault = ResourceError("memory ran out", where="here")
    assert resource_fault(fault) is fault
    with pytest.raises(ResourceError) as raised:
        reraise_resource_fault(fault)
    assert raised.value is fault
    wrapped = resource_fault(raised_from(ModelError("cannot be loaded"), fault))
    assert (wrapped.what, wrapped.where) == (fault.what, fault.where)


def test_the_place_is_what_the_caller_knows_else_the_file():
    error = OSError(errno.EROFS, "Read-only file system", "/a/.out-x1y2")
    assert resource_fault(error).where == "/a/.out-x1y2"
    assert resource_fault(error, "/a/out").where == "/a/out"
    assert resource_fault(OSError(errno.ENOSPC, "No space left on device")).where == "while writing"


def test_of_very_many_words_the_first_few_are_listed():
    hint = did_you_mean("?", [f"node_{number:04}" for number in range(5000)])
    assert hint == "choose one of: node_0000, node_0001, node_0002 and 4997 more"
