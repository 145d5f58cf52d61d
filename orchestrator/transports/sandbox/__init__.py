"""Hosts in this machine: real SSH over loopback and real shells."""
