"""Machine code for CPUs through TVM's LLVM code generator, from kernels that are written here."""
