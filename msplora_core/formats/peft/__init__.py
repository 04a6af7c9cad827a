"""Adapters in PEFT's format, one file a method."""
