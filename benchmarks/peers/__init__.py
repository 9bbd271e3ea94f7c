"""Today's peers beside ours on the same cells, each run live in a process of its own."""
