"""Locales of multi-byte character sets, made in a temp folder: glibc's own code converts."""

from __future__ import annotations

import subprocess
from pathlib import Path

MULTI_BYTE = {"SHIFT_JIS": 2, "BIG5": 2, "GBK": 2, "JOHAB": 2, "GB18030": 4, "EUC-TW": 4}
"""Character sets with bytes below 0x80 in their characters, or whose mbrlen(3) waits for such;
and how many bytes a character has at most."""

_LOCALE = 'LC_CTYPE\ncopy "POSIX"\nEND LC_CTYPE\n'
_ASCII = "".join(f"<U{i:04X}> /x{i:02x} -\n" for i in range(128))


def make_locales(folder: Path) -> Path:
    """Make ``x.NAME`` for each of the character sets. Returns the folder for LOCPATH.

    The charmaps hold ASCII only, else localedef takes seconds: the converter of glibc that goes
    by the name in it is what a shell's mbrlen(3) asks. ``-c``: five other categories are missing.
    """
    locale_folder = folder / "locales"
    locale_folder.mkdir()
    (folder / "source").write_text(_LOCALE)
    for name, most in MULTI_BYTE.items():
        charmap = folder / f"{name}.charmap"
        charmap.write_text(
            f"<code_set_name> {name}\n<mb_cur_min> 1\n<mb_cur_max> {most}\n"
            f"<comment_char> %\n<escape_char> /\nCHARMAP\n{_ASCII}END CHARMAP\n"
        )
        words = [
            "localedef",
            "-c",
            "-i",
            folder / "source",
            "-f",
            charmap,
            locale_folder / f"x.{name}",
        ]
        subprocess.run(words, capture_output=True, check=False)
        assert (locale_folder / f"x.{name}" / "LC_CTYPE").exists(), name
    return locale_folder
