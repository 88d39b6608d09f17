"""What a run must satisfy, and the `check` and `diff` commands."""
