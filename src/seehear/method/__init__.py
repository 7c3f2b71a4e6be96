"""What is the method? The paper: cluster what one encoder says, teach the other, repeat.

Open `method.py` first: the loop, whole. Then `train.py`, how one round's labels are learned; `step.py`, one
update, divided among ranks and parts; `features.py`, one feature a row; `clusters.py`, what is clustered.
`encoders/` are the two networks and what they see and hear; `kmeans/` is k-means over rows on ranks.
Nothing here knows of run folders, reports or classes.
"""
