"""What changes from one network to another."""
