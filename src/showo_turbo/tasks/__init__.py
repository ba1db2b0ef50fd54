"""What the pipeline can do, by what comes out: `images` (drawing) and `texts` (answering), on the same `parts`."""
