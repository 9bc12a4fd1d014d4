"""ONNX Runtime: the embedded default, and the reference for every other backend."""
