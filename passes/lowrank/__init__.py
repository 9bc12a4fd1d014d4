"""Low-rank decomposition: a layer becomes a chain of thinner ones."""
