"""Files that are copied into a bundle and run there on their own."""
