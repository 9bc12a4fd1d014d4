"""graphpress compiles a trained ONNX model into a smaller, faster one that is still right."""
