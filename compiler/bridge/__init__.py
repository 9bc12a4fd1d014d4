"""The framework bridge: a model as something a training framework can differentiate, and back."""
