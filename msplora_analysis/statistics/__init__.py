"""What the numbers support: claims and their verdicts."""
