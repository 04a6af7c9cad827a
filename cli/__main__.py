"""`python -m msplora_cli`, as `torchrun -m` needs it."""

from msplora_cli.app import main

main()
