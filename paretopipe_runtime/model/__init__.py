"""What is computed: loading, weights, cuts, stages."""
