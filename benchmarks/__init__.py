"""Speed beside what people use today. `python -m benchmarks` measures all of it, in one table."""
