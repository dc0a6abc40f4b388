"""Tiled logs, read from anywhere and believed nowhere: sources of tiles, and what authenticates them."""
