"""The rooms of `overhead.py`: models, processes, loads, rounds, other servers, the table."""
