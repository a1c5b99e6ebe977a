"""Runs beside the user's script: standard library and the store only."""
