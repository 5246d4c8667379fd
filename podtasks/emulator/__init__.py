"""A local RunPod: the API the unmodified SDK talks to, and real pods behind it.

A program of its own (`python -m podtasks.emulator --state DIR`) that imports nothing of the rest of
podtasks. How to use it, and what it does and does not emulate, is in docs/emulator.md.
"""
