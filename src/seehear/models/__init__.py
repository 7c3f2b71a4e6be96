"""What are trained encoders as a thing: to load, call, save, export?

Open `model.py` first: `load` and `Model`. `files.py` is the `encoders/` folder, `matching.py`
compares sights with sounds, `huggingface.py` wraps networks of others (`filterbank.py` is the sound
that some of them hear), `released/` knows published weights, `export.py` and `hub.py` write for
other programs.
"""
