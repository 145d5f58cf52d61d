"""Loading of Ansible's inventories into the hosts and roles of a stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import DiagnosticCollector, SourcePosition
from orchestrator.inventory.ansible.groups import UNGROUPED, AnsibleInventory
from orchestrator.inventory.ansible.host_patterns import expand_host_pattern
from orchestrator.inventory.ansible.sources import SourceReader
from orchestrator.inventory.ansible.stage import AnsibleStage, AnsibleStageBuilder
from orchestrator.inventory.directory import InventoryWarning
from orchestrator.inventory.hostnames import InvalidHostNameError
from orchestrator.inventory.programs import InventoryAccess, ProgramRunner
from orchestrator.inventory.records import AnsibleSource, StageSettings
from orchestrator.model.host import VariableLayer
from orchestrator.model.marked_value import MarkedKey, MarkedValue


class AnsibleLoader:
    """A loader of one stage's inventories; errors go to ``problems``, notes to ``notes``.

    ``project`` is the folder whose ``group_vars/`` and ``host_vars/`` are read as well.
    """

    def __init__(
        self,
        root: Path,
        stage: str,
        access: InventoryAccess,
        problems: DiagnosticCollector,
        notes: list[InventoryWarning],
        *,
        project: Path | None = None,
    ) -> None:
        self.root, self.stage, self.access = root, stage, access
        self.problems, self.notes, self.project = problems, notes, project
        self.inventory = AnsibleInventory()

    def add_host_list(self, text: str) -> None:
        """Add hosts that are written with commas between them."""
        mark = SourcePosition("--inventory")
        for pattern in filter(None, (word.strip() for word in text.split(","))):
            try:
                names, port = expand_host_pattern(pattern)
            except InvalidHostNameError as bad:
                self.problems.add(f"'{pattern}' is not a host: {bad.why}", mark, bad.hint)
                continue
            for name in names:
                group = self.inventory.groups[UNGROUPED]
                host = self.inventory.add_host(name, group, mark)
                if port is not None:
                    host.set_variable(MarkedKey("ansible_port", mark), MarkedValue(port, mark))

    def load(
        self,
        sources: Sequence[AnsibleSource],
        base: Sequence[VariableLayer],
        settings: StageSettings,
    ) -> AnsibleStage:
        """Return the hosts and roles of the sources. ``base`` are layers below theirs.

        Raises DefinitionError with every error found.
        """
        programs = ProgramRunner(
            self.access, self.root, self.stage, settings.inventory_cache, settings.inventory_timeout
        )
        reader = SourceReader(
            self.inventory, programs, self.access.open_vault, self.problems, self.notes
        )
        for source in sources:
            reader.read(source.path, source.ignored)
        reader.read_constructed([source.path for source in sources])
        self.problems.raise_any()
        self.inventory.complete()
        folders = [each.path if each.path.is_dir() else each.path.parent for each in sources]
        builder = AnsibleStageBuilder(
            self.inventory,
            self.root,
            base,
            folders,
            project_folder=self.project,
            problems=self.problems,
            notes=self.notes,
        )
        found = builder.build()
        self.problems.raise_any()
        return found
