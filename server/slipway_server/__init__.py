"""The model server: a batching, drop-in replacement for tensorflow_model_server."""
