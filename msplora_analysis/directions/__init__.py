"""Directions: which updates point the same way, between the layers of an adapter and between adapters."""
