"""What is one training run, from its settings to its folder?

Open `pretrain.py` first: it drives the method, saves, stops and goes on. `folder.py` is the run's folder,
`checkpoint.py` what it keeps of each round, `state.py` how a round becomes that, `log.py` the numbers and
warnings of rounds, `names.py` what people call clusters, `fingerprint.py` whether an index is still the one
that was trained on.
"""
