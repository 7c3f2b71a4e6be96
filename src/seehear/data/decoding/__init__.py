"""How are many files read at once, by processes that may die or hang?

`pool.py` deals jobs out to processes and gives their answers in order: open it first. `process.py`:
one process as its parent sees it. `worker.py`: what it does. `decoders.py`: the pool that decodes
clips. `request.py`: what is decoded of a file for one clip.
"""
