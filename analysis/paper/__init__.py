"""The tables and figures of the reference paper from one's own measurements, and the paper's figures beside them."""
