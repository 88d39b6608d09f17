"""Other people's results as a results directory: what they say, in our units, with what is known to be wrong in it."""
