"""Draw docs/images/run.svg: the output of real runs, as a terminal shows it.

Usage: python docs/make_run_svg.py [FILE]

The runs happen in a project in a temporary folder, on sandbox hosts. The picture asks the network
for nothing: its font is the reader's own monospace font.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.doc_examples import SHOWN_KERNEL, capture_terminal, render_screen  # noqa: E402

WIDTH = 78
FILES = {
    "inventories/dev/stage.yml": "connect: {transport: sandbox}\n",
    "inventories/dev/roles/web.yml": "- web[1-3]\n",
    "inventories/dev/roles/db.yml": "- db1\n",
    "tasks/uname.yml": "steps:\n  - {run: uname -a, readonly: true}\n",
    "tasks/motd.yml": "params: {text: {default: Maintained by orch}}\nsteps:\n"
    '  - directory: {path: ~/etc}\n  - copy: {path: ~/etc/motd, content: "{{ text }}\\n"}\n',
}
COMMANDS = (
    "orch -s dev run uname",
    "orch -s dev run motd -l web --check --diff",
    "orch -s dev run motd -l web",
    "orch -s dev run motd",
)
THEME = TerminalTheme(
    (30, 33, 40),
    (220, 223, 228),
    [
        (40, 44, 52),
        (224, 108, 117),
        (152, 195, 121),
        (229, 192, 123),
        (97, 175, 239),
        (198, 120, 221),
        (86, 182, 194),
        (220, 223, 228),
    ],
)
SVG = """\
<svg class="orch" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
<rect fill="rgb(30,33,40)" x="1" y="1" width="{terminal_width}" height="{height}" rx="8"/>
<g transform="translate({terminal_x}, 24)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def main() -> None:
    """Run the commands and write the picture."""
    target = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "docs/images/run.svg"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(draw(run_commands()), "utf-8")


def run_commands() -> str:
    """Return what a terminal shows of all commands, with its colours."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "demo"
        for name, text in FILES.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        environ = {
            "HOME": folder,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "COLUMNS": str(WIDTH),
        }
        parts: list[str] = []
        for command in COMMANDS:
            code, raw = capture_terminal(["sh", "-c", command], root, environ, WIDTH)
            if code:
                raise SystemExit(f"{command}: {render_screen(raw)}")
            shown = re.sub(r"Linux \S+ \d.*GNU/Linux", " ".join(SHOWN_KERNEL.split()[:3]), raw)
            lines = shown.replace(str(root), "/home/ann/demo").replace("\r\n", "\n").rstrip("\n")
            kept = [line for line in lines.split("\n") if "log: /" not in line]
            parts.append(f"\x1b[36m$\x1b[0m \x1b[1m{command}\x1b[0m\n" + "\n".join(kept) + "\n")
        return "\n".join(parts)


def draw(text: str) -> str:
    """Return the picture of a text with control sequences for colours."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text), no_wrap=True, crop=False)
    return console.export_svg(title="", theme=THEME, code_format=SVG, unique_id="orch")


if __name__ == "__main__":
    main()
