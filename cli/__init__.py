"""The command line, `msplora-analyze`: bodies only parse, call and print."""
