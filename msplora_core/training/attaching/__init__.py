"""How each method is attached to a model, and how its weight updates are read."""
