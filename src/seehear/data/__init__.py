"""How do files become batches of clips?

`index/` says which files can be used and cuts them into segments, the rows of an index; `clips.py`
makes batches of rows, and is the file to open first. What a clip is derives from (seed, epoch,
row): `order.py` draws rows, `placing.py` says where in its segment a clip lies, `augment.py` crops
and flips. `stretches.py`: part of a file, and how it is cut into segments. `decoding/` runs the
processes that decode, with `media/`, which reads one file. `packing/` re-encodes an index into
shards that decode faster, `remote/` fetches files from object storage, `synthetic/` makes videos
whose events are known, `unpacking.py` takes videos out of containers of others. `parts.py` shares
work on files among processes. `advice.py`: how fast clips come.
"""
