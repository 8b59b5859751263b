"""Features: from recordings to a memory-mapped store of frames, and batches of it."""
