"""The fault table: every step of the way, and what can happen to it.

A cell is a test with the mark ``fault(STAGE, FAULT, PROMISE)``, wherever it lies. ``python -m tests.faults`` runs all of
them and prints the table; docs/faults.md is that table.
"""
