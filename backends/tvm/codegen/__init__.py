"""From loops and vectors to an object file: the statement builder, instruction sets, and TVM's code generator."""
