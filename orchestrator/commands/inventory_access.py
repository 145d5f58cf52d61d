"""What reading an inventory may use: kept output of programs, and passwords of vaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from orchestrator.inventory.programs import InventoryAccess
from orchestrator.journal import private_state_file
from orchestrator.model.secret import SecretResolver
from orchestrator.yamlio.secret_sources import secret_fetcher


def inventory_access(
    root: Path,
    environ: Mapping[str, str],
    secrets: SecretResolver | None = None,
    *,
    refresh: bool = False,
    tell: Callable[[str], object] = lambda _text: None,
) -> InventoryAccess:
    """Return what the inventories of the project at ``root`` may use.

    ``secrets`` decrypts encrypted inventories. Without it, they are decrypted only if the
    environment names a password, so that nobody is asked. ``refresh`` and ``tell`` are those of
    ``InventoryAccess``.
    """
    access = InventoryAccess(
        environ, cache_file=partial(private_state_file, root, environ), refresh=refresh, tell=tell
    )
    if secrets is None:
        from orchestrator.yamlio.vault_passwords import has_vault_password  # costs 4 ms

        if not has_vault_password(environ):
            return access
        secrets = SecretResolver(fetch_secret=secret_fetcher(environ))
    decrypt = secrets.decrypt_text
    return replace(access, open_vault=lambda secret: decrypt(secret) or "")
