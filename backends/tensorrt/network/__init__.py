"""Direct lowering: from the graph to TensorRT's own network, operator by operator, without the ONNX parser."""
