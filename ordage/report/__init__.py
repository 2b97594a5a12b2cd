"""Pages that people look at: one HTML file each, which opens from disk without a network."""
