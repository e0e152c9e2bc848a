"""What the service sees of the engine: plain, checked, frozen data. Pydantic only; no NumPy, no TensorFlow."""
