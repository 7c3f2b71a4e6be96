"""How are many clips decoded at once, by processes that may die or hang?

`decoders.py` deals requests out to processes and hands answers back in order: open it first.
`request.py`: what is decoded of a file. `worker.py`: what a process does. `workers.py`: the same
processes for examining and packing files.
"""
