"""The workloads written for Fabric: `python fabric_work.py W1|W2 JOB.json`."""

from __future__ import annotations

import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jinja2
from fabric import Config, Connection  # type: ignore[import-not-found]

workload = sys.argv[1]
job = json.loads(Path(sys.argv[2]).read_text())
page = jinja2.Environment(keep_trailing_newline=True).from_string(Path(job["page"]).read_text())


def work(index: int, name: str) -> str:
    config = Config(runtime_ssh_path=job["ssh_config"])  # threads cannot share one
    own = {"key_filename": job["key"], "allow_agent": False, "look_for_keys": False}
    with Connection(name, config=config, connect_timeout=300, connect_kwargs=own) as host:
        if workload == "W1":
            return f"{name} {host.run('uname -a', hide=True).stdout.strip()}"
        base = f"{job['root']}/{name}"
        folder = f"{base}/releases/{job['release']}"
        host.run(f"mkdir -p {folder}", hide=True)
        text = page.render(host={"name": name}, index=index)
        host.put(io.StringIO(text), f"{folder}/app.conf")
        host.put(io.StringIO(f"{job['release']}\n"), f"{folder}/REVISION")
        for command in (
            f"test -d {folder}",
            f"cat {folder}/REVISION",
            "date -u",
            f"ln -sfn {base}/shared {folder}/shared",
            f"wc -c {folder}/app.conf",
            f"ln -sfn {folder} {base}/current",
            f"readlink {base}/current",
            "uname -r",
            f"ls -1dt {base}/releases/* | tail -n +6 | xargs -r rm -rf",
        ):
            host.run(command, hide=True)
        return name


with ThreadPoolExecutor(len(job["hosts"])) as pool:
    for line in pool.map(work, range(len(job["hosts"])), job["hosts"]):
        print(line)
