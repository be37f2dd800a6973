"""Floor 5: connections over byte transports, layer by layer."""
