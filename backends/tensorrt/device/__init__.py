"""What runs on the device: plain files that need TensorRT or trtexec and nothing of graphpress."""
