"""Files that jobs made, and the blobs that all rows refer to."""
