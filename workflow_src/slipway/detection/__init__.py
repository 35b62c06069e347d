"""What a path holds: told by magic bytes, names and fields of messages; nothing is executed, and TensorFlow not imported."""
