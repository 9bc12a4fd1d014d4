"""Surgery: the user's own changes to the graph, written for onnx-graphsurgeon."""
