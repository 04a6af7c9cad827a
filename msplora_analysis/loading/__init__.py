"""From a path to tables: sources, the spectra table, task scores."""
