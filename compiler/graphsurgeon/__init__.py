"""onnx-graphsurgeon: models as the graphs that users' existing surgeries know, and back."""
