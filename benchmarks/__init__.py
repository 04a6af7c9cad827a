"""Speed compared with the tools in use today. `python -m benchmarks` measures everything and prints one table."""
