"""The demo: what a newcomer reads first."""
