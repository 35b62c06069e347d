"""What turns a version directory into something that runs."""
