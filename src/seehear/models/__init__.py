"""What are trained encoders as a thing: to load, call, save, export?

Open `model.py` first: `load` and `Model`. `files.py` is the `encoders/` folder, `matching.py`
compares sights with sounds, `huggingface.py` wraps networks of others (`filterbank.py` is the sound
that some of them hear). `released.py` lists published weights, `fetching.py` downloads them and
`converting.py` opens their files; `export.py` and `hub.py` write for other programs.
"""
