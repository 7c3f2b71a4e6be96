"""Which trained video encoders did others release, and how do their files become ours?

`released` is the table, `fetching` downloads and checks, `reading` opens a checkpoint from a
stranger and accounts for every key of it, `converting` makes an `encoders/` folder.

    path = seehear.models.released.fetch("r2plus1d_18_xdc_audioset")     # cached
    seehear.models.released.convert(path, "encoders-xdc")                # opened by seehear.load
"""

from seehear.models.released.converting import convert, open_checkpoint
from seehear.models.released.fetching import cache_folder, fetch
from seehear.models.released.reading import Accounting, account, load_into, read_state
from seehear.models.released.released import RELEASED, Released, find

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
