"""
Everything that needs TensorFlow, Keras or scikit-learn; no other module of the workflow imports them.

What is set here is read by TensorFlow once, when it is imported: whoever imports a module of this package
imports this first.
"""

import os
import sys

# oneDNN picks its kernels by CPU and gives other last bits than Eigen: no two machines would train alike.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
# Exports and golden answers come from the CPU, and a GPU's memory is left to whoever serves or measures.
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["KERAS_BACKEND"] = "tensorflow"
# Warnings about the CPU and about CUDA that is not there; errors are shown.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# TensorFlow imports Keras, and Keras scikit-learn if it is there, to wrap it: half a second of each stage for nothing.
if not {"tensorflow", "keras", "sklearn"} & sys.modules.keys():
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # as the import system has it: not to be found
    try:
        import tensorflow  # noqa: F401, ICN001 - for its side effect
    finally:
        del sys.modules["sklearn"]
