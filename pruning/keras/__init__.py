"""The half of the engine that needs Keras and TensorFlow, as verbs in the order of the pipeline."""
