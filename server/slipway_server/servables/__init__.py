"""What is served: which versions, in which state, and who may use them. Knows no protocol and no TensorFlow."""
