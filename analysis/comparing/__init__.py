"""One choice beside another at equal cells, and the `compare` command."""
