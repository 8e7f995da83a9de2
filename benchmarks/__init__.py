"""Timings against the peers and against the machine; never run as tests."""
