"""Fetch the wheel of the pip in requirements.txt from PyPI into the folder named; print its path.

Its SHA-256 must be one of those in that file. The index is that of PEP 691 (JSON form of the
simple index).
"""

import hashlib
import json
import re
import sys
import urllib.request
from pathlib import Path

INDEX = "https://pypi.org/simple/pip/"
ACCEPT = {"Accept": "application/vnd.pypi.simple.v1+json"}

pinned = Path(__file__).with_name("requirements.txt").read_text()
pin = re.search(r"^pip==(\S+)((?: \\\n +--hash=sha256:\w+)+)", pinned, re.MULTILINE)
if pin is None:
    sys.exit("requirements.txt pins no pip")
name = f"pip-{pin[1]}-py3-none-any.whl"
with urllib.request.urlopen(urllib.request.Request(INDEX, headers=ACCEPT), timeout=60) as answer:
    files = {file["filename"]: file["url"] for file in json.load(answer)["files"]}
with urllib.request.urlopen(files[name], timeout=60) as answer:
    data = answer.read()
if f"--hash=sha256:{hashlib.sha256(data).hexdigest()}" not in pin[2].split():
    sys.exit(f"{name} is not what requirements.txt says")
path = Path(sys.argv[1], name)
path.write_bytes(data)
print(path)
