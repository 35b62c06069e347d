"""Load tests that know only the wire: Locust drives, we record."""
