"""From what a user has on disk to decoded, split and labelled samples."""
