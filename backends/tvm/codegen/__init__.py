"""From loops and vectors to an object file: the statement builder, instruction sets, and TVM's code generator."""

from graphpress.backends.tvm.codegen.without_torch import import_tvm

import_tvm()
