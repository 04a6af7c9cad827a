"""From the spectra of a run to the ranks of the next."""
