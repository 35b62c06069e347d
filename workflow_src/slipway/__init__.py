"""The workflow: one module per stage, from checkpoint to published report."""
