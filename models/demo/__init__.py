"""The demo: ``digits.onnx``, its data file ``digits.yaml``, and the script that trained it."""
