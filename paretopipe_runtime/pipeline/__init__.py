"""How batches flow and are timed: inputs, stage loop, driver."""
