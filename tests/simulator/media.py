"""Small files of each kind, made here."""

from __future__ import annotations

import base64
import struct
import zlib


def png(width: int, height: int, noise: int = 0) -> bytes:
    """A grey PNG; `noise` bytes of a comment make it larger."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rows = zlib.compress(bytes(width + 1) * height)
    comment = chunk(b"tEXt", bytes(noise)) if noise else b""
    return b"\x89PNG\r\n\x1a\n" + head + comment + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\x00\x00" + bytes(6) + b";"


def jpeg(width: int, height: int) -> bytes:
    app = b"\xff\xe0" + struct.pack(">H", 16) + bytes(14)
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + bytes(3)
    return b"\xff\xd8" + app + frame + b"\xff\xd9"


def webp(width: int, height: int) -> bytes:
    extended = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", len(extended)) + extended
    return b"RIFF" + struct.pack("<I", len(body)) + body


def pdf(pages: int) -> bytes:
    kids = b"\n".join(b"%d 0 obj << /Type /Page /Parent 2 0 R >> endobj" % (i + 3) for i in range(pages))
    return (
        b"%PDF-1.4\n2 0 obj << /Type /Pages /Count "
        + str(pages).encode()
        + b" >> endobj\n"
        + kids
        + b"\n%%EOF"
    )


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{b64(data)}"
