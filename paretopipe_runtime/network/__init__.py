"""Shaping this host's own network: impose a delay, loss or rate towards named peers, and always take it off again.

It runs on the shaped host itself, as root, started by Ansible (`pp-net`). It imports no torch. Whatever it changes is
written down first, so that `restore`, or the guard process once nobody renews the lease, can put it back.
"""
