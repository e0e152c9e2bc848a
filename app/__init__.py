"""The HTTP service: what it stores, how jobs move, what it answers. It sees of the engine only `pruning.contract`."""
