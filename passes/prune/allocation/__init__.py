"""How many units each group keeps."""
