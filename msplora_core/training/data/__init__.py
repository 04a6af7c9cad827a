"""Examples to train on: GLUE files and the hub, generated tasks, batches."""
