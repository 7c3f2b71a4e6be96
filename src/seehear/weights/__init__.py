"""Which trained video encoders did others release, and how do their files become ours?

`released` is the table, `fetching` downloads and checks, `reading` opens a checkpoint from a stranger and accounts for
every key of it, `converting` makes an `encoders/` folder.

    path = seehear.weights.fetch("r2plus1d_18_xdc_audioset")     # cached; needs a network once
    seehear.weights.convert(path, "encoders-xdc")                # opened by seehear.load
"""

from seehear.weights.converting import convert, open_checkpoint
from seehear.weights.fetching import cache_folder, fetch
from seehear.weights.reading import Accounting, account, load_into, read_state
from seehear.weights.released import RELEASED, Released, find

__all__ = [
    "RELEASED",
    "Accounting",
    "Released",
    "account",
    "cache_folder",
    "convert",
    "fetch",
    "find",
    "load_into",
    "open_checkpoint",
    "read_state",
]
