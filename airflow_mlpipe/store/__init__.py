"""The output store, on any fsspec filesystem."""
