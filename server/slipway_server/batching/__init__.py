"""Tasks run together: which, when, and how their tensors are merged. Knows no protocol and no TensorFlow."""
