"""The commands: ``adaclip NAME``, and each a job of its own for ``ray job submit jobs/...``."""
