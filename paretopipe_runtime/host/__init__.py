"""What a host runs: the agent, its worker, the messages between them."""
