"""What the service and the engine cost, each as a ratio to something known, measured in one run."""
