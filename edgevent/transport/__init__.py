"""Floor 3: what moves bytes. A transport knows nothing of lines or messages."""
