"""What is one run, from its settings to its folder?

Open `pretrain.py` first: it drives the method; `clustering.py` makes a run of encoders as they are.
`saving.py` saves, stops and goes on between two steps of training, `finishing.py` writes what the
finished encoders say. `folder.py` is the run's folder, `checkpoint.py` its files of each round,
`log.py` the numbers and warnings of rounds, `names.py` what people call clusters, `fingerprint.py`
whether an index is still the one that was trained on.
"""
