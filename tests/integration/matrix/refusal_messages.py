"""The reason and the hint for a host that refuses a login, by host and transport.

The parts in braces differ from run to run.
"""

from __future__ import annotations

TRIED = "{key} (ssh-ed25519 {print})"
NO_ANSWERS = (
    "transport openssh cannot answer prompts: is the key in the agent, or `identity` right?"
)
REFUSED = "Unable to negotiate with 127.0.0.1 port {port}: no matching"
KEX = (
    "curve25519-sha256, curve25519-sha256@libssh.org, ecdh-sha2-nistp256, mlkem768x25519-sha256,"
    " ecdh-sha2-nistp384, ecdh-sha2-nistp521, diffie-hellman-group14-sha256,"
    " diffie-hellman-group16-sha512, diffie-hellman-group-exchange-sha256"
)
CIPHERS = (
    "aes128-gcm@openssh.com, aes256-gcm@openssh.com, aes128-ctr, aes256-ctr, aes192-ctr,"
    " aes128-cbc, aes256-cbc"
)
ALLOW, OTHER = (
    "ssh_config can enable an algorithm that the host offers",
    "the system's ssh may support one: `connect: {transport: openssh}`",
)
STALE = (
    "shell: {at}: the session was lost (exit status 1); the host sent: 'WARNING: Your password has"
    " expired. / Password change required but no TTY available.'",
    "an rc file that reads its input, a forced command or a closed account does this: check"
    " with `ssh HOST 'exec sh'`",
)
SLOWER = (
    "auth: {at}: timed out after 0.2 s logging in",
    "is the host up? `connect: {{timeout: …}}` allows more",
)
UNKNOWN = (
    "host key: {{at}}: [127.0.0.1]:{{port}} is not in {{folder}}/known-ca;"
    " {{folder}}/known-ca:1 is a @cert-authority, but its certificate is not valid: {why};"
    " its key is ssh-ed25519 {{host_key}}"
)
COMPARE = (
    "compare that with `ssh-keygen -lf` on the host, then: ssh-keyscan -p {port} 127.0.0.1 >>"
    " {folder}/known-ca; or set `host_keys: accept-new`"
)
UNKNOWN_THERE = (
    "host key: {at}: [127.0.0.1]:{port} is not in known_hosts; its key is ssh-ed25519-cert-v01@openssh.com"
    " {host_key}",
    "check it and add it with ssh-keyscan, or set `host_keys: accept-new`",
)
LINES: dict[tuple[str, str], tuple[str, str]] = {
    ("expired", "ssh"): (
        "auth: {at}: the server hung up; it sent: 'Your account has expired; please contact your"
        f" system administrator.' (tried {TRIED})",
        "",
    ),
    ("expired", "openssh"): (
        "auth: {at}: Your account has expired; please contact your system administrator. /"
        " Connection closed by 127.0.0.1 port 22; tried {key}",
        NO_ANSWERS,
    ),
    ("stale", "ssh"): STALE,
    ("stale", "openssh"): STALE,
    ("barred", "ssh"): (
        f"auth: {{at}}: permission denied for barred: tried {TRIED}; the server accepts publickey",
        "is the user right, and the key in its ~/.ssh/authorized_keys?",
    ),
    ("barred", "openssh"): (
        "auth: {at}: barred@127.0.0.1: Permission denied (publickey).; tried {key}",
        NO_ANSWERS,
    ),
    ("both", "openssh"): (
        "auth: {at}: both@127.0.0.1: Permission denied (password).; tried {key}",
        NO_ANSWERS,
    ),
    ("prompted", "openssh"): (
        "auth: {at}: prompted@127.0.0.1: Permission denied (keyboard-interactive).; tried no key",
        NO_ANSWERS,
    ),
    ("many", "ssh"): (
        "auth: {at}: the server allows no more attempts (MaxAuthTries): tried {folder}/wrong"
        " (ssh-ed25519 {wrong})",
        "name the key (`connect: {{identity: …}}`) and set `identities_only: true`",
    ),
    ("many", "openssh"): (
        "auth: {at}: Received disconnect from 127.0.0.1 port 22:2: Too many authentication"
        " failures / Disconnected from 127.0.0.1 port 22; tried {folder}/wrong",
        NO_ANSWERS,
    ),
    ("encrypted", "openssh"): (
        "auth: {at}: encrypted@127.0.0.1: Permission denied (publickey).; tried {folder}/encrypted",
        NO_ANSWERS,
    ),
    ("slower", "ssh"): SLOWER,
    ("slower", "openssh"): SLOWER,
    ("revoked", "ssh"): (
        "host key: {at}: the key of 127.0.0.1 is revoked at {folder}/revoked:1: ssh-ed25519"
        " {host_key}",
        "another machine may be impersonating the host; ask its administrators",
    ),
    ("revoked", "openssh"): (
        "host key: {at}: the host key is revoked: ssh-ed25519 {host_key} (Host key verification failed.)",
        "",
    ),
    ("elsewhere", "ssh"): (UNKNOWN.format(why="it is for other"), COMPARE),
    ("elsewhere", "openssh"): UNKNOWN_THERE,
    ("lapsed", "ssh"): (UNKNOWN.format(why="it was valid until 2020-01-02 00:00 UTC"), COMPARE),
    ("lapsed", "openssh"): UNKNOWN_THERE,
    ("ca-revoked", "ssh"): (
        "host key: {at}: the CA of [127.0.0.1]:{port} is revoked at {folder}/known-revoked:2:"
        " ssh-ed25519 {ca}",
        "another machine may be impersonating the host; ask its administrators",
    ),
    ("ca-revoked", "openssh"): (
        "host key: {at}: the host key is revoked: ssh-ed25519-cert-v01@openssh.com {host_key} (Host key"
        " verification failed.)",
        "",
    ),
    ("cbc", "openssh"): (
        "kex: {at}: " + REFUSED + " cipher found. Their offer: aes256-cbc",
        ALLOW,
    ),
    ("sha1", "ssh"): (
        "kex: {at}: no key exchange algorithm in common: the server offers diffie-hellman-group14-sha1,"
        f" kex-strict-s-v00@openssh.com; orch supports {KEX}",
        OTHER,
    ),
    ("sha1", "openssh"): (
        "kex: {at}: " + REFUSED + " key exchange method found. Their offer:"
        " diffie-hellman-group14-sha1,kex-strict-s-v00@openssh.com",
        ALLOW,
    ),
    ("sha1-key", "ssh"): (
        "kex: {at}: no host key algorithm in common: the server offers ssh-rsa; orch supports ssh-ed25519,"
        " rsa-sha2-512, rsa-sha2-256, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384,"
        " ecdsa-sha2-nistp521",
        OTHER,
    ),
    ("sha1-key", "openssh"): (
        "kex: {at}: " + REFUSED + " host key type found. Their offer: ssh-rsa",
        ALLOW,
    ),
    ("sntrup", "ssh"): (
        "kex: {at}: no key exchange algorithm in common: the server offers"
        f" sntrup761x25519-sha512@openssh.com, kex-strict-s-v00@openssh.com; orch supports {KEX}",
        OTHER,
    ),
    ("chacha", "ssh"): (
        "kex: {at}: no cipher algorithm in common: the server offers chacha20-poly1305@openssh.com;"
        f" orch supports {CIPHERS}",
        OTHER,
    ),
}
