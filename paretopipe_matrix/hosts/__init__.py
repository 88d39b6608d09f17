"""How the controller reaches hosts."""
