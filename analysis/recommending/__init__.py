"""Which operating point to take, how sure that is, and the `recommend` command."""
