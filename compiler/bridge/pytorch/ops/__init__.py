"""What each operator of the table computes, in PyTorch."""
