"""What does a file look like from its first bytes? A cheap first look, so that not every file must
be opened.
"""

from __future__ import annotations

HEAD_BYTES = 4096
"""So many bytes are enough for all of the answers below."""

_STARTS = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"OggS",
    b"FLV\x01",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF: WMV, WMA
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG-1 and 2 video
    b"\x00\x00\x01\xb0",  # MPEG-4 video
    b"\x00\x00\x00\x01",  # H.264 and HEVC as a byte stream
    b".RMF",
    b"\x06\x0e\x2b\x34",  # MXF
    b"nut/multimedia container",
    b"DKIF",  # IVF
    b"YUV4MPEG2",
    b"NSVf",
    b"\xb7\xd8\x00\x20\x37\x49\xda\x11",  # WTV
    b"\x1f\x07\x00",  # DV
    b"DHAV",
    b"GIF8",
    b"FWS",
    b"CWS",
    b"ID3",  # MP3 with tags
    b"fLaC",
    b"FORM",  # AIFF
    b".snd",
    b"caff",
    b"riff\x2e\x91\xcf\x11",  # Wave64
    b"MAC ",
    b"wvPK",
    b"TTA1",
    b"tBaK",
    b"#!AMR",
    b"MP+",
    b"MPCK",
    b"ajkg",
    b"Creative Voice File",
    b"\x0bw",  # AC-3
    b"\x7f\xfe\x80\x01",  # DTS
    b"\xff\xf1",  # AAC
    b"\xff\xf9",
    b"\xff\xfb",  # MP3
    b"\xff\xf3",
    b"\xff\xf2",
    b"\xff\xfa",
)
# MP4, QuickTime
_BOXES = (
    b"ftyp",
    b"moov",
    b"mdat",
    b"free",
    b"skip",
    b"wide",
    b"pnot",
    b"styp",
    b"uuid",
    b"junk",
)
_RIFF_KINDS = (b"AVI ", b"AVIX", b"WAVE", b"AMV ")
_TRANSPORT_PACKETS = ((188, 0), (192, 4), (204, 0))  # length, offset of the first sync byte

_PLAYLIST_STARTS = (
    b"#EXTM3U",
    b"ffconcat",
    b"v=0\r\n",
    b"v=0\n",
    b"[playlist]",
    b"[Reference]",
    b"[InternetShortcut]",
)
_PLAYLIST_TAGS = (b"<MPD", b"<SmoothStreamingMedia", b"<playlist", b"<smil", b"<asx", b"<ASX")


def looks_like_media(head: bytes) -> bool:
    """Do the first bytes look like a container or a stream of pictures or sound? Damaged files look
    like it, too.
    """
    if head.startswith(_STARTS) or head[4:8] in _BOXES:
        return True
    if head[:4] in (b"RIFF", b"RF64"):
        return head[8:12] in _RIFF_KINDS
    return any(
        head[offset : offset + 3 * size : size] == b"GGG" for size, offset in _TRANSPORT_PACKETS
    )


def looks_like_playlist(head: bytes) -> bool:
    """Do the first bytes look like a text that only points to media?"""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return text.startswith(_PLAYLIST_STARTS) or (
        text.startswith(b"<") and any(tag in text for tag in _PLAYLIST_TAGS)
    )
