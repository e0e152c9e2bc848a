"""Pruning jobs: their states, rows, events and endpoints."""
