"""Networks of tensors in [-1, 1]; they take integers and tuples, never a config or an affine."""
