"""Mutilated media by the thousand: what do index and clips make of it? `make fuzz`, or
`python -m fuzz`.
"""
