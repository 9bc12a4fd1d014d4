"""Recovery without training: closed-form repairs after a lossy pass."""
