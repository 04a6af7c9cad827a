"""Files: atomic writes, paths that stay inside a folder, JSON and tensors. Untrusted input is checked here, once."""
