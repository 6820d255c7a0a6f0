"""Faults, injected: storage, processes, nodes, memory, disk and the objects themselves.

``world.py`` runs the job as users do, behind ``proxy.py``; ``plan.py`` says by seed what goes
wrong, ``scenarios.py`` when, and ``checks.py`` what must hold afterwards.
``python -m tests.faults.soak`` repeats the scenarios for as long as one likes.
"""
