"""
Graphs as messages, without TensorFlow: read, searched, cut down to what answers need, folded.

TensorFlow is shown a graph of somebody else's only after this: as much of it as is needed, with nothing in it that a
policy refuses. Importing is not harmless, for shape inference runs what it takes for constants.
"""
