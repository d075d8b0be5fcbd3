"""The fabric between GPUs: who is connected to whom, and who says so."""
