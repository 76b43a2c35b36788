"""Select the rows of one recipient and month, have the gate judge them, and publish them once.

Imports ``warehouse`` and ``expectations`` and nothing else of the project.
"""
