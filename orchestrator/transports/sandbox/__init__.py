"""The ``sandbox`` transport: hosts on this machine, with real SSH over loopback and real shells."""
