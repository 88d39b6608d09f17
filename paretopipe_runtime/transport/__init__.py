"""How tensors travel: frames, handshake, channels, the link model."""
