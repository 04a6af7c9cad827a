"""What is written: tables, summary.json, pictures."""
