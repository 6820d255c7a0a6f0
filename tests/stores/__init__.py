"""Which stores work, found out on the real servers: ``python -m tests.stores``.

Outside the tests: the servers come from npm and Debian as well (docs/stores.md names the packages).
"""
