"""Fetch pip's newest wheel from PyPI into the folder named, check its SHA-256, print its path.

The index is that of PEP 691 (JSON form of the simple index).
"""

import hashlib
import json
import re
import sys
import urllib.request
from pathlib import Path

INDEX = "https://pypi.org/simple/pip/"
ACCEPT = {"Accept": "application/vnd.pypi.simple.v1+json"}

with urllib.request.urlopen(urllib.request.Request(INDEX, headers=ACCEPT), timeout=60) as answer:
    index = json.load(answer)
wheels = {
    tuple(map(int, match[1].split("."))): file
    for file in index["files"]
    if (match := re.fullmatch(r"pip-([0-9.]+)-py3-none-any\.whl", file["filename"]))
}
wheel = wheels[max(wheels)]
with urllib.request.urlopen(wheel["url"], timeout=60) as answer:
    data = answer.read()
if hashlib.sha256(data).hexdigest() != wheel["hashes"]["sha256"]:
    sys.exit(f"{wheel['filename']} is not what the index says")
path = Path(sys.argv[1], wheel["filename"])
path.write_bytes(data)
print(path)
