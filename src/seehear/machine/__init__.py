"""Where does it run, and what may go wrong there? Nothing here knows of videos.

Open `distributed.py` for what processes under torchrun tell each other, `devices.py` for device,
precision and layout, `files.py` for files that appear whole or not at all. `signals.py`: requests
to stop. `console.py`: progress, warnings, what is shown of a path. `lazy.py`: late imports.
"""
