"""What a contract demands of a SavedModel: of its file, without TensorFlow, and of its answers."""
