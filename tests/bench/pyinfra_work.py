"""The deploy written for pyinfra."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

from pyinfra import host  # type: ignore[import-not-found]
from pyinfra.operations import files, server  # type: ignore[import-not-found]

job = json.loads(Path(os.environ["BENCH_JOB"]).read_text())
base = f"{job['root']}/{host.name}"
folder = f"{base}/releases/{job['release']}"
index = job["hosts"].index(host.name)


class HostNameFacts:
    name = host.name


files.directory(path=folder)
files.template(src=job["page"], dest=f"{folder}/app.conf", host=HostNameFacts, index=index)
files.put(src=io.StringIO(f"{job['release']}\n"), dest=f"{folder}/REVISION")
server.shell(commands=[f"test -d {folder}"])
server.shell(commands=[f"cat {folder}/REVISION"])
server.shell(commands=["date -u"])
files.link(path=f"{folder}/shared", target=f"{base}/shared")
server.shell(commands=[f"wc -c {folder}/app.conf"])
files.link(path=f"{base}/current", target=folder)
server.shell(commands=[f"readlink {base}/current"])
server.shell(commands=["uname -r"])
server.shell(commands=[f"ls -1dt {base}/releases/* | tail -n +6 | xargs -r rm -rf"])
