"""NVIDIA TensorRT: ONNX in the forms it takes, engines where it is installed, bundles for other devices."""
