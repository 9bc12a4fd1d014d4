"""Recovery with training, through the framework bridge."""
