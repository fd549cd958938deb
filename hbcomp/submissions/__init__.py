"""Submission files: written checked, recorded in a ledger, compared, sent."""

from pathlib import Path

FOLDER = Path("submissions")  # of the working directory
