"""Layers of one method beside each other, and one method against another."""
