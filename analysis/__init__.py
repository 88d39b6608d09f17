"""From results to statistics, frontiers and figures: the pp-analyze command. Knows no hosts and no torch."""
